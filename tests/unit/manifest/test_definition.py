"""The hosted definition over the wire."""

import json
from pathlib import Path
from typing import Any

import pytest

from trunkline.manifest.agent import (
    AgentCode,
    AgentProtocol,
    AgentResources,
    AgentVariable,
    LoadedAgent,
)
from trunkline.manifest.definition import (
    definition_from_agent,
    parse_create_version,
    parse_definition,
)
from trunkline.protocol.errors import InvalidRequestError, envelope
from trunkline.protocol.ids import AgentName

LEAST: dict[str, Any] = {
    "kind": "hosted",
    "protocol_versions": [{"protocol": "invocations_ws", "version": "1.0.0"}],
}
# The contract's own example.
EXAMPLE = {
    "definition": {
        "kind": "hosted",
        "cpu": "1",
        "memory": "2Gi",
        "container_configuration": {"image": "registry.local/voice:1"},
        "protocol_versions": [
            {"protocol": "invocations_ws", "version": "1.0.0"},
            {"protocol": "invocations", "version": "2.0.0"},
        ],
        "environment_variables": {"GREETING": "hi"},
        "session_configuration": {"idle_timeout_seconds": 900},
    },
    "description": "demo",
    "metadata": {"team": "a"},
}


def test_example_comes_back() -> None:
    for body in (EXAMPLE, json.dumps(EXAMPLE), json.dumps(EXAMPLE).encode()):
        request = parse_create_version(body)
        assert request.to_wire() == EXAMPLE
    definition = request.definition
    assert definition.image == "registry.local/voice:1"
    assert definition.cpu_cores == 1.0
    assert definition.memory_bytes == 2 * 1024**3
    assert definition.idle_timeout_s == 900
    assert definition.hosted_protocols == ("invocations_ws", "invocations")


def test_defaults() -> None:
    definition = parse_definition(LEAST)
    assert (definition.cpu, definition.memory) == ("1", "2Gi")
    assert definition.image is None
    assert definition.idle_timeout_s is None
    assert definition.environment_variables == {}


def test_unknown_fields_are_kept() -> None:
    body = {**LEAST, "cpu": "1", "memory": "2Gi", "environment_variables": {}, "future": {"a": [1]}}
    body["rai_config"] = {"rai_policy_name": "strict", "more": 1}
    body["telemetry_config"] = {"endpoints": [{"kind": "OTLP"}]}
    body["enable_memory_snapshot"] = False
    request = parse_create_version({"definition": body, "draft": True, "later": 1})
    assert request.to_wire() == {"definition": body, "metadata": {}, "draft": True, "later": 1}


def test_legacy_spellings() -> None:
    definition = parse_definition(
        {
            "kind": "hosted",
            "cpu": 0.5,
            "image": "registry.local/voice:1",
            "container_configuration": None,
            "container_protocol_versions": [
                {"protocol": "invocations_ws"},
                {"protocol": "invocations", "version": "v1"},
                {"protocol": "activity_protocol"},
            ],
        }
    )
    assert definition.to_wire() == {
        "kind": "hosted",
        "cpu": "0.5",
        "memory": "2Gi",
        "container_configuration": {"image": "registry.local/voice:1"},
        "protocol_versions": [
            {"protocol": "invocations_ws", "version": "1.0.0"},
            {"protocol": "invocations", "version": "v1"},
            {"protocol": "activity", "version": "1.0.0"},
        ],
        "environment_variables": {},
    }


def test_code() -> None:
    definition = parse_definition({**LEAST, "code_configuration": {"runtime": "python_3_13"}})
    code = definition.code_configuration
    assert code is not None
    assert code.entry_point == ("python", "main.py")
    assert code.dependency_resolution == "remote_build"
    hashed = definition.with_content_hash("ab")
    assert hashed.code_configuration is not None
    assert hashed.code_configuration.runtime == "python_3_13"
    assert hashed.code_configuration.content_hash == "ab"
    assert code.content_hash is None
    bare = parse_definition(LEAST).with_content_hash("ab").code_configuration
    assert bare is not None
    assert bare.entry_point == ("python", "main.py")


def test_fingerprint() -> None:
    one = parse_definition({**LEAST, "environment_variables": {"A": "1", "B": "2"}})
    two = parse_definition({"environment_variables": {"B": "2", "A": "1"}, "cpu": "1", **LEAST})
    other = parse_definition({**LEAST, "environment_variables": {"A": "1", "B": "3"}})
    assert one.fingerprint() == two.fingerprint() != other.fingerprint()
    assert one.fingerprint() != one.with_content_hash("ab").fingerprint()


def code(**fields: Any) -> dict[str, Any]:
    return {"code_configuration": fields}


PROTOCOLS = "definition.protocol_versions"
MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "prompt"}, "definition.kind", '"prompt" isn\'t known; write "hosted"'),
    ({"kind": 1}, "definition.kind", 'must be "hosted", and is a number'),
    ({"protocol_versions": []}, PROTOCOLS, "must not be empty; write [{"),
    ({"protocol_versions": "ws"}, PROTOCOLS, "must be a list, and is text; write [{"),
    ({"protocol_versions": ["ws"]}, f"{PROTOCOLS}[0]", "must be an object, and is text"),
    ({"protocol_versions": [{}]}, f"{PROTOCOLS}[0].protocol", "is missing; write"),
    (
        {"protocol_versions": [{"protocol": "invocation_ws"}]},
        f"{PROTOCOLS}[0].protocol",
        'did you mean "invocations_ws"?',
    ),
    (
        {"protocol_versions": [{"protocol": "invocations", "version": 2}]},
        f"{PROTOCOLS}[0].version",
        'must be text, and is a number; write "1.0.0"',
    ),
    (
        {"protocol_versions": [{"protocol": "invocations"}] * 2},
        "definition",
        'lists the protocol "invocations" twice',
    ),
    ({"protocol_versions": [{"protocol": "a2a"}]}, "definition", "doesn't carry a2a"),
    ({"cpu": "lots"}, "definition.cpu", "is not a number of processors"),
    ({"cpu": True}, "definition.cpu", 'must be text, and is true or false; write "1"'),
    ({"memory": "9Gi"}, "definition.memory", "out of range; write 512Mi to 8Gi"),
    ({"image": "voice"}, "definition.container_configuration.image", "not a full image"),
    (
        {"image": "a.b/c", "container_configuration": {"image": "a.b/d"}},
        "definition",
        'holds "image" and a different "container_configuration"',
    ),
    (
        {"container_protocol_versions": [{"protocol": "invocations"}]},
        "definition",
        'holds "container_protocol_versions" and a different',
    ),
    ({"image": "a.b/c", **code()}, "definition", "keep one of the two"),
    (code(entry_point="main.py"), "definition.code_configuration.entry_point", '["python", "main'),
    (code(entry_point=[]), "definition.code_configuration.entry_point", "must not be empty"),
    (code(entry_point=[""]), "definition.code_configuration.entry_point[0]", "must not be empty"),
    (code(runtime="dotnet_10"), "definition.code_configuration.runtime", "runs Python agents"),
    (
        code(dependency_resolution="x"),
        "definition.code_configuration.dependency_resolution",
        "it may be remote_build, bundled",
    ),
    (
        {"environment_variables": [{"name": "A", "value": "b"}]},
        "definition.environment_variables",
        'must be an object, and is a list; write {"GREETING": "hello"}',
    ),
    (
        {"environment_variables": {"A": 1}},
        "definition.environment_variables.A",
        "must be text, and is a number",
    ),
    ({"environment_variables": {"AGENT_X": ""}}, "definition.environment_variables", "reserved"),
    ({"environment_variables": {"PORT": "1"}}, "definition.environment_variables", "reserved"),
    ({"environment_variables": {"a-b": ""}}, "definition.environment_variables", '"a_b"'),
    (
        {"environment_variables": {"A": "\0"}},
        "definition.environment_variables",
        'the value of "A" holds a NUL',
    ),
    (
        {"session_configuration": {"idle_timeout_seconds": 5}},
        "definition.session_configuration.idle_timeout_seconds",
        "must be at least 120",
    ),
    (
        {"session_configuration": {"idle_timeout_seconds": 14_401}},
        "definition.session_configuration.idle_timeout_seconds",
        "must be at most 14400",
    ),
    (
        {"session_configuration": {"idle_timeout_seconds": "900"}},
        "definition.session_configuration.idle_timeout_seconds",
        "must be a whole number, and is text; write 900",
    ),
    ({"rai_config": []}, "definition.rai_config", "must be an object, and is a list"),
    ({"enable_memory_snapshot": 7}, "definition.enable_memory_snapshot", "must be true or false"),
]


@pytest.mark.parametrize(("fields", "param", "message"), MISTAKES)
def test_mistake(fields: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_create_version({"definition": {**LEAST, **fields}})
    assert caught.value.param == param
    assert str(caught.value).startswith(f"{param}: ")
    assert message in str(caught.value)
    # The same on its own, under the same name.
    with pytest.raises(InvalidRequestError) as alone:
        parse_definition({**LEAST, **fields})
    assert (alone.value.param, str(alone.value)) == (param, str(caught.value))


TOP_MISTAKES: list[tuple[dict[str, Any], str | None, str]] = [
    ({"definition": None}, "definition", 'must be an object, and is null; write {"kind": "hosted"'),
    ({"metadata": {"a": 1}}, "metadata.a", "must be text, and is a number"),
    ({"metadata": {"k" * 65: ""}}, "metadata", "has 65 characters; 1 to 64 are allowed"),
    ({"metadata": {"k": "v" * 513}}, "metadata", 'value of "k" has 513 characters; 512'),
    ({"metadata": {str(i): "" for i in range(17)}}, "metadata", "has 17 pairs; 16 are allowed"),
    ({"name": "a_b"}, "name", 'for example "a-b"'),
    ({"draft": "perhaps"}, "draft", "must be true or false, and is text"),
    ({"description": 1}, "description", "must be text, and is a number"),
    (
        {"agent_endpoint": {"protocol_configuration": {"invocation": {}}}},
        "agent_endpoint.protocol_configuration.invocation",
        'did you mean "invocations"?',
    ),
]


@pytest.mark.parametrize(("fields", "param", "message"), TOP_MISTAKES)
def test_mistake_at_the_top(fields: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_create_version({"definition": LEAST, **fields})
    assert caught.value.param == param
    assert message in str(caught.value)


def test_all_mistakes_at_once_in_the_envelope() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_create_version({"definition": {"kind": "x", "cpu": "y"}, "metadata": []})
    error = envelope(caught.value)["error"]
    assert error["param"] == "definition.kind"
    for place in ("definition.kind: ", "definition.cpu: ", f"{PROTOCOLS}: is missing", "metadata:"):
        assert place in error["message"]


def test_values_are_not_quoted() -> None:
    body = {"definition": {**LEAST, "environment_variables": {"A": ["secret"], "B": "secret\0"}}}
    with pytest.raises(InvalidRequestError) as caught:
        parse_create_version(body)
    assert "secret" not in str(caught.value)
    body["definition"]["environment_variables"].pop("A")
    with pytest.raises(InvalidRequestError) as caught:
        parse_create_version(body)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "the body isn't JSON: "),
        (b"\xff\xff", "the body isn't UTF-8"),
        ("[" * 100_000, "the body isn't JSON that can be read"),
        ('{"definition": NaN}', "NaN is no JSON number"),
        ("[]", "the body: must be an object, and is a list"),
        ("null", "the body: must be an object, and is null"),
        ("{}", "definition: is missing; write"),
    ],
)
def test_no_request(body: str | bytes, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        parse_create_version(body)


def agent(**fields: Any) -> LoadedAgent:
    return LoadedAgent(
        path=Path("agent.yaml"),
        name=AgentName("voice"),
        protocols=(AgentProtocol("invocations_ws", "1.0.0"),),
        **fields,
    )


def test_from_agent() -> None:
    request, unset = definition_from_agent(
        agent(
            description="A voice.",
            metadata={"team": "a"},
            resources=AgentResources("0.5", "1Gi"),
            environment_variables=(
                AgentVariable("GREETING", "${GREETING} ${NAME}"),
                AgentVariable("KEPT", "${{ connections.a }} $${x}"),
                AgentVariable("AGAIN", "${NAME}"),
            ),
            code=AgentCode("python_3_12", "app/run.py", "bundled"),
            idle_timeout_seconds=300,
            policies=({"type": "rai_policy", "rai_policy_name": "strict"},),
            agent_card={"description": "x"},
        ),
        {"GREETING": "hi"},
    )
    assert unset == ("NAME",)
    assert request.to_wire() == {
        "name": "voice",
        "description": "A voice.",
        "metadata": {"team": "a"},
        "agent_card": {"description": "x", "skills": []},
        "definition": {
            "kind": "hosted",
            "cpu": "0.5",
            "memory": "1Gi",
            "protocol_versions": [{"protocol": "invocations_ws", "version": "1.0.0"}],
            "environment_variables": {
                "GREETING": "hi ",
                "KEPT": "${{ connections.a }} ${x}",
                "AGAIN": "",
            },
            "secret_environment_variables": ["GREETING", "AGAIN"],
            "code_configuration": {
                "runtime": "python_3_12",
                "entry_point": ["python", "app/run.py"],
                "dependency_resolution": "bundled",
            },
            "session_configuration": {"idle_timeout_seconds": 300},
            "rai_config": {"rai_policy_name": "strict"},
        },
    }


def test_from_agent_with_default_code() -> None:
    request, _ = definition_from_agent(agent(code=AgentCode()), {})
    assert request.to_wire()["definition"]["code_configuration"] == {
        "entry_point": ["python", "main.py"],
        "dependency_resolution": "remote_build",
    }


def test_from_agent_with_image_placeholder() -> None:
    request, unset = definition_from_agent(agent(image="${REG}/voice:1"), {"REG": "a.example"})
    assert request.definition.image == "a.example/voice:1"
    assert unset == ()
    with pytest.raises(InvalidRequestError, match="not a full image reference") as caught:
        definition_from_agent(agent(image="${REG}/voice:1"), {})
    assert caught.value.param == "definition.container_configuration.image"
