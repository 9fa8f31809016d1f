# ruff: noqa: E501 - a mistake a line: its text, and what must be said of it
"""azure.yaml: the service block read as the agent it describes, and its mistakes."""

from pathlib import Path

import pytest

from trunkline.manifest.agent import AgentProtocol, AgentVariable
from trunkline.manifest.errors import ManifestError
from trunkline.manifest.service import find_project_file, list_services, load_service

GOOD = """\
name: demo
services:
  my-voice-agent:
    host: azure.ai.agent
    project: ./src/agent
    language: python
    kind: hosted
    displayName: Voice
    protocols:
      - {protocol: invocations_ws, version: 1.0.0}
    container: {resources: {cpu: "1", memory: 2Gi}}
    codeConfiguration: {runtime: python_3_12, entryPoint: app.py, dependencyResolution: bundled}
    env: {GREETING: "${GREETING}"}
    sessionConfiguration: {idleTimeoutSeconds: 300}
    agentEndpoint:
      versionSelector:
        versionSelectionRules:
          - {type: FixedRatio, agentVersion: "@latest", trafficPercentage: 100}
  web:
    host: containerapp
    project: ./web
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("src/agent").mkdir(parents=True)
    Path("src/agent/app.py").touch()
    return Path()


def load(text: str, service: str | None = None) -> object:
    Path("azure.yaml").write_text(text)
    return load_service(Path("azure.yaml"), service)


def problems_of(text: str, service: str | None = None) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load(text, service)
    return [str(problem) for problem in caught.value.problems]


def test_a_service_is_an_agent() -> None:
    Path("azure.yaml").write_text(GOOD)
    agent = load_service(Path("azure.yaml"))
    assert agent.name == "my-voice-agent"
    assert agent.display_name == "Voice"
    assert agent.folder == Path("src/agent")
    assert agent.protocols == (AgentProtocol("invocations_ws", "1.0.0"),)
    assert (agent.resources.cpu, agent.resources.memory) == ("1", "2Gi")
    assert agent.code is not None
    assert (agent.code.entry_point, agent.code.runtime) == ("app.py", "python_3_12")
    assert agent.code.dependency_resolution == "bundled"
    assert agent.environment_variables == (AgentVariable("GREETING", "${GREETING}"),)
    assert agent.idle_timeout_seconds == 300
    assert agent.agent_endpoint is not None
    (rule,) = agent.agent_endpoint["version_selector"]["version_selection_rules"]
    assert rule["agent_version"] == "@latest"
    assert list_services(Path("azure.yaml")) == ("my-voice-agent",)
    assert find_project_file(Path()) == Path("azure.yaml")


def test_runtime_and_startup_command() -> None:
    text = GOOD.replace(
        "codeConfiguration: {runtime: python_3_12, entryPoint: app.py, dependencyResolution: bundled}",
        'runtime: {stack: python, version: "3.13"}\n    startupCommand: python app.py',
    )
    Path("azure.yaml").write_text(text)
    agent = load_service(Path("azure.yaml"))
    assert agent.code is not None
    assert (agent.code.entry_point, agent.code.runtime) == ("app.py", "python_3_13")


def test_the_older_agent_yaml_is_read() -> None:
    Path("src/agent/agent.yaml").write_text(
        "kind: hosted\nname: older\nprotocols: [{protocol: invocations_ws, version: 1.0.0}]\n"
        "code_configuration: {entry_point: app.py}\n"
    )
    text = "services:\n  a:\n    host: azure.ai.agent\n    project: src/agent\n"
    Path("azure.yaml").write_text(text)
    assert load_service(Path("azure.yaml")).name == "older"


def test_which_service() -> None:
    two = GOOD + "  other:\n    host: azure.ai.agent\n    project: src/agent\n    protocols: []\n"
    assert problems_of(two) == [
        "azure.yaml: has more than one agent; name one of my-voice-agent, other"
    ]
    assert problems_of(two, "othr") == ['azure.yaml: has no agent "othr"; did you mean "other"?']
    assert problems_of(GOOD, "zzz") == ['azure.yaml: has no agent "zzz"; there is my-voice-agent']


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("displayName", "display_name", 'azure.yaml:8:5: services.my-voice-agent.display_name: is not a field; azure.yaml spells it "displayName"'),
        ("displayName", "displayNme", 'azure.yaml:8:5: services.my-voice-agent.displayNme: is not a field; did you mean "displayName"?'),
        ("language: python", "$ref: x.yaml", "azure.yaml:6:5: services.my-voice-agent.$ref: is not read by trunkline; write the fields here, or an agent.yaml in the project"),
        ("protocol: invocations_ws", "protocol: invocation_ws", 'azure.yaml:10:20: services.my-voice-agent.protocols[0].protocol: "invocation_ws" is not a protocol; did you mean "invocations_ws"?'),
        ("idleTimeoutSeconds: 300", "idleTimeoutSeconds: 3", "services.my-voice-agent.sessionConfiguration.idleTimeoutSeconds: 3 is out of range"),
        ("entryPoint: app.py", "entryPoint: ap.py", 'did you mean "app.py"?'),
        ("kind: hosted", "kind: hostd", "services.my-voice-agent.kind"),
        ("GREETING: \"${GREETING}\"", "GREETING: [1]", "services.my-voice-agent.environmentVariables[0].value: must be text, and is a list"),
        ("codeConfiguration: {runtime: python_3_12, entryPoint: app.py, dependencyResolution: bundled}", "docker: {path: Dockerfile}", "needs an image that is built already"),
        ("services:", "service:", "has no services; write services:"),
        ("  web:\n    host: containerapp\n    project: ./web\n", "  web: 3\n", "azure.yaml:19:8: services.web: must be a mapping, and is a number"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_place(old: str, new: str, said: str) -> None:
    assert old in GOOD
    assert said in "\n".join(problems_of(GOOD.replace(old, new)))


@pytest.mark.parametrize("text", ["", "[]", "services: [", "services: 3"])
def test_what_is_no_azure_yaml(text: str) -> None:
    assert problems_of(text)
