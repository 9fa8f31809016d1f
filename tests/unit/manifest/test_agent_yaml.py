# ruff: noqa: E501 - a mistake a line: its text, and what must be said of it
"""agent.yaml: what is read, and one test for each mistake a person makes."""

from pathlib import Path

import pytest

from trunkline.manifest.agent import AgentCode, AgentProtocol, AgentVariable
from trunkline.manifest.agent_yaml import find_agent_file, load_agent
from trunkline.manifest.errors import ManifestError

GOOD = """\
kind: hosted
name: voice
protocols:
  - protocol: invocations_ws
    version: 1.0.0
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("main.py").touch()
    return Path()


def problems_of(text: str | bytes) -> list[str]:
    Path("agent.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ManifestError) as caught:
        load_agent(Path())
    error = caught.value
    assert error.code == "invalid_manifest"
    assert str(error).split("\n") == [str(problem) for problem in error.problems]
    return [str(problem) for problem in error.problems]


def test_least(folder: Path) -> None:
    Path("agent.yaml").write_text(GOOD)
    agent = load_agent(folder)
    assert agent.name == "voice"
    assert agent.folder == folder
    assert agent.protocols == (AgentProtocol("invocations_ws", "1.0.0"),)
    assert (agent.resources.cpu, agent.resources.memory) == ("1", "2Gi")
    assert agent.code == AgentCode(None, "main.py", "remote_build")
    assert agent.image is None
    assert agent.environment_variables == ()
    assert agent.idle_timeout_seconds is None


FULL = """\
kind: hosted
name: voice
displayName: Voice
description: >
  Answers
  calls.
metadata:
  authors: [ann, bob]
  team: voice
  year: 2026
protocols:
  - {protocol: invocations_ws}
  - {protocol: invocations, version: 2.0}
  - {protocol: responses}
resources: {cpu: 0.5, memory: 1Gi}
environment_variables:
  - {name: GREETING, value: "${GREETING}"}
  - {name: ROUNDS, value: 010}
  - {name: LOUD, value: yes}
  - {name: EMPTY, value: ""}
code_configuration: {runtime: python_3_12, entry_point: ./app/run.py, dependency_resolution: bundled}
session_configuration: {idle_timeout_seconds: 300}
agent_endpoint:
  version_selector:
    version_selection_rules:
      - {type: FixedRatio, agent_version: 3, traffic_percentage: 10}
      - {type: FixedRatio, agent_version: "@latest", traffic_percentage: 90}
  protocols: [invocations_ws]
  authorization_schemes: [{type: Entra, isolation_key_source: {kind: Entra}}]
agent_card:
  description: A voice.
  skills: [{id: talk, name: Talk, tags: [voice]}]
policies:
  - type: rai_policy
    rai_policy_name: strict
    invocations_moderation: {response_mode: both}
inputSchema: {type: object}
"""


def test_full(folder: Path) -> None:
    (folder / "app").mkdir()
    (folder / "app/run.py").touch()
    Path("agent.yml").write_text(FULL)
    agent = load_agent(folder)
    assert agent.display_name == "Voice"
    assert agent.description == "Answers calls.\n"
    assert agent.metadata == {"authors": "ann,bob", "team": "voice", "year": "2026"}
    assert agent.protocols == (
        AgentProtocol("invocations_ws", "1.0.0"),
        AgentProtocol("invocations", "2.0"),
        AgentProtocol("responses", "2.0.0"),
    )
    assert agent.hosted_protocols == ("invocations_ws", "invocations", "responses")
    assert (agent.resources.cpu, agent.resources.memory) == ("0.5", "1Gi")
    assert agent.environment_variables == (
        AgentVariable("GREETING", "${GREETING}"),
        AgentVariable("ROUNDS", "010"),
        AgentVariable("LOUD", "yes"),
        AgentVariable("EMPTY", ""),
    )
    assert agent.code == AgentCode("python_3_12", "app/run.py", "bundled")
    assert agent.idle_timeout_seconds == 300
    assert agent.agent_endpoint is not None
    selector = agent.agent_endpoint["version_selector"]
    assert selector["version_selection_rules"][0]["agent_version"] == "3"
    assert agent.agent_card is not None
    assert agent.agent_card["skills"][0]["name"] == "Talk"
    assert agent.policies[0]["rai_policy_name"] == "strict"
    assert agent.input_schema == {"type": "object"}


def test_image_needs_no_file(folder: Path) -> None:
    Path("main.py").unlink()
    Path("agent.yaml").write_text(GOOD + "image: localhost:5000/team/voice:1\n")
    agent = load_agent(folder)
    assert agent.image == "localhost:5000/team/voice:1"
    assert agent.code is None


def test_byte_order_mark_crlf_and_aliases(folder: Path) -> None:
    text = "\ufeff" + GOOD + "metadata: {a: &x [p, q], b: *x}\n"
    Path("agent.yaml").write_bytes(text.replace("\n", "\r\n").encode())
    assert load_agent(folder).metadata == {"a": "p,q", "b": "p,q"}


# Each is put after GOOD, so it begins in line 6.
MISTAKES = {
    "unknown field": ("colour: red", '6:1: colour: is not a field; there are kind, name'),
    "near field": ("resorces: {}", '6:1: resorces: is not a field; did you mean "resources"?'),
    "camelCase": (
        "sessionConfiguration: {}",
        '6:1: sessionConfiguration: is not a field; agent.yaml spells it "session_configuration"',
    ),
    "kebab-case": ("agent-card: {}", '6:1: agent-card: is not a field; agent.yaml spells it "agent_card"'),
    "other word": ("env: []", '6:1: env: is not a field; did you mean "environment_variables"?'),
    "misplaced": ("cpu: 1", '6:1: cpu: is not a field here; write it below "resources"'),
    "entrypoint at top": ("entrypoint: main.py", '6:1: entrypoint: is not a field here; write it as "entry_point"'),
    "manifest": ("template: {}", "6:1: template: is not a field here; this is an agent.manifest.yaml"),
    "null": ("description:", "6:1: description: must be text, and is empty; write such as"),
    "blank": ('description: " "', "6:14: description: is blank"),
    "text list": ("description: [a]", "6:14: description: must be text, and is a list"),
    "both spellings": ("displayName: a\ndisplay_name: b", '7:1: display_name: "display_name" is given twice'),
    "list for mapping": ("resources: [1]", '6:12: resources: must be a mapping, and is a list; write {cpu: "1", memory: 2Gi}'),
    "text for mapping": ("resources: big", "6:12: resources: must be a mapping, and is text"),
    "cpu text": ("resources: {cpu: lots}", '6:18: resources.cpu: "lots" is not a number of processors; write such as 1, 0.5 or 500m'),
    "cpu range": ("resources: {cpu: 16}", '6:18: resources.cpu: "16" is out of range; write 0.25 to 4'),
    "memory word": ("resources: {memory: 2GB}", '6:21: resources.memory: "2GB" is not an amount of memory; write such as 512Mi or 2Gi; did you mean 2Gi?'),
    "memory bytes": ("resources: {memory: 2}", '6:21: resources.memory: "2" is out of range; write 512Mi to 8Gi; did you mean 2Gi?'),
    "resource field": ("resources: {mem: 2Gi}", '6:13: resources.mem: is not a field; did you mean "memory"?'),
    "env mapping": ("environment_variables: {A: b}", "6:24: environment_variables: must be a list, and is a mapping; write a list such as [{name: GREETING, value: hello}]"),
    "env item": ("environment_variables: [A=b]", "6:25: environment_variables[0]: must be a mapping, and is text; write name: A=b"),
    "env no name": ("environment_variables: [{value: b}]", "6:25: environment_variables[0].name: is missing; write name: GREETING"),
    "env no value": ("environment_variables: [{name: B}]", '6:25: environment_variables[0].value: is missing; write value: "" for an empty one'),
    "env null": ("environment_variables: [{name: B, value: }]", '6:35: environment_variables[0].value: must be text, and is empty; write value: ""'),
    "env list": ("environment_variables: [{name: B, value: [1]}]", "6:42: environment_variables[0].value: must be text, and is a list; put it in quotes"),
    "env bad name": ("environment_variables: [{name: my-var, value: b}]", '6:32: environment_variables[0].name: "my-var" is not a variable\'s name: letters, digits and _, not starting with a digit; for example "my_var"'),
    "env reserved": ("environment_variables: [{name: AGENT_X, value: b}]", '6:32: environment_variables[0].name: "AGENT_X" is reserved: the platform sets FOUNDRY_* and AGENT_*, PORT and HOME itself'),
    "env foundry": ("environment_variables: [{name: FOUNDRY_X, value: b}]", '6:32: environment_variables[0].name: "FOUNDRY_X" is reserved'),
    "env twice": ("environment_variables: [{name: B, value: b}, {name: B, value: c}]", '6:53: environment_variables[1].name: "B" is listed twice; keep one'),
    "env nul": ('environment_variables: [{name: B, value: "\\0"}]', "6:42: environment_variables[0].value: holds a NUL character"),
    "env placeholder": ("environment_variables: [{name: B, value: 'a ${X'}]", '6:42: environment_variables[0].value: "${X" is not a placeholder; write ${NAME}'),
    "env default": ("environment_variables: [{name: B, value: '${X:-y}'}]", '6:42: environment_variables[0].value: "${X:-y}" is not a placeholder'),
    "both ways": ("image: a.example/b:1\ncode_configuration: {}", '6:8: image: stands next to "code_configuration"; keep one of the two'),
    "image": ("image: voice", '6:8: image: "voice" is not a full image reference; write its registry, repository and tag'),
    "runtime": ("code_configuration: {runtime: python_3_9}", '6:31: code_configuration.runtime: "python_3_9" is not a runtime; it may be python_3_11, python_3_12, python_3_13, python_3_14'),
    "runtime spelling": ("code_configuration: {runtime: '3.13'}", '6:31: code_configuration.runtime: "3.13" is not a runtime; did you mean "python_3_13"?'),
    "runtime dotnet": ("code_configuration: {runtime: dotnet_10}", "6:31: code_configuration.runtime: \"dotnet_10\" can't be run: trunkline runs Python agents"),
    "resolution": ("code_configuration: {dependency_resolution: remote}", '6:45: code_configuration.dependency_resolution: "remote" is not a way to get dependencies; did you mean "remote_build"?'),
    "entrypoint": ("code_configuration: {entrypoint: main.py}", '6:22: code_configuration.entrypoint: is not a field; did you mean "entry_point"?'),
    "entry camel": ("code_configuration: {entryPoint: main.py}", '6:22: code_configuration.entryPoint: is not a field; agent.yaml spells it "entry_point"'),
    "entry missing": ("code_configuration: {entry_point: mian.py}", '6:35: code_configuration.entry_point: there is no file "mian.py" in the agent\'s folder; did you mean "main.py"?'),
    "entry far": ("code_configuration: {entry_point: zzz.py}", 'there is no file "zzz.py" in the agent\'s folder; it has main.py'),
    "entry suffix": ("code_configuration: {entry_point: main}", 'there is no file "main" in the agent\'s folder; did you mean "main.py"?'),
    "entry absolute": ("code_configuration: {entry_point: /srv/main.py}", '6:35: code_configuration.entry_point: "/srv/main.py" is not a path within'),
    "entry outside": ("code_configuration: {entry_point: ../main.py}", '6:35: code_configuration.entry_point: "../main.py" leads out of the agent\'s folder'),
    "entry command": ("code_configuration: {entry_point: python main.py}", '"python main.py" is a command; write the file alone: main.py'),
    "entry list": ("code_configuration: {entry_point: [python, main.py]}", "6:35: code_configuration.entry_point: must be text, and is a list; write such as main.py"),
    "entry folder": ("code_configuration: {entry_point: pkg}", '"pkg" is a folder; name a file in it'),
    "entry not python": ("code_configuration: {entry_point: agent.yaml}", '"agent.yaml" is not a Python file'),
    "entry dll": ("code_configuration: {entry_point: App.dll}", '"App.dll" is a .NET program; trunkline runs Python agents'),
    "entry link": ("code_configuration: {entry_point: out.py}", '"out.py" is a link out of the agent\'s folder'),
    "idle low": ("session_configuration: {idle_timeout_seconds: 119}", "6:47: session_configuration.idle_timeout_seconds: 119 is out of range; write 120 to 14400 seconds"),
    "idle high": ("session_configuration: {idle_timeout_seconds: 14401}", "6:47: session_configuration.idle_timeout_seconds: 14401 is out of range"),
    "idle text": ("session_configuration: {idle_timeout_seconds: 15m}", "6:47: session_configuration.idle_timeout_seconds: must be a whole number of seconds, and is text; write such as 900"),
    "idle bool": ("session_configuration: {idle_timeout_seconds: true}", "must be a whole number of seconds, and is true or false"),
    "idle field": ("session_configuration: {idle_timeout: 900}", 'session_configuration.idle_timeout: is not a field; did you mean "idle_timeout_seconds"?'),
    "metadata nested": ("metadata: {a: {b: c}}", "6:15: metadata.a: must be text or a list of texts, and is a mapping"),
    "metadata long": (f"metadata: {{a: {'x' * 513}}}", '6:15: metadata.a: the value of "a" has 513 characters; 512 are allowed'),
    "metadata key": (f"metadata: {{{'k' * 65}: v}}", "has 65 characters; 1 to 64 are allowed"),
    "metadata many": (f"metadata: {{{', '.join(f'k{i}: v' for i in range(17))}}}", "6:11: metadata: has 17 pairs; 16 are allowed"),
    "endpoint list": ("agent_endpoint: []", "6:17: agent_endpoint: must be a mapping, and is a list"),
    "endpoint field": ("agent_endpoint: {versionSelector: {}}", '6:18: agent_endpoint.versionSelector: is not a field; did you mean "version_selector"?'),
    "endpoint sum": ("agent_endpoint: {version_selector: {version_selection_rules: [{agent_version: '1', traffic_percentage: 60}]}}", "agent_endpoint.version_selector.version_selection_rules: traffic_percentage adds up to 60; it must be 100"),
    "endpoint rule": ("agent_endpoint: {version_selector: {version_selection_rules: [{agent_version: '1', traffic_percentage: 120}]}}", "6:104: agent_endpoint.version_selector.version_selection_rules[0].traffic_percentage: must be at most 100"),
    "endpoint draft": ("agent_endpoint: {version_selector: {version_selection_rules: [{agent_version: draft-1, traffic_percentage: 100}]}}", '"draft-1" is a draft, and drafts get no traffic'),
    "endpoint protocol": ("agent_endpoint: {protocols: [invocation]}", '6:30: agent_endpoint.protocols[0]: "invocation" is not a protocol; did you mean "invocations"?'),
    "endpoint scheme": ("agent_endpoint: {authorization_schemes: [{type: entra}]}", '6:49: agent_endpoint.authorization_schemes[0].type: "entra" isn\'t known; did you mean "Entra"?'),
    "card skill": ("agent_card: {skills: [{id: a}]}", "6:23: agent_card.skills[0].name: is missing"),
    "card deep field": ("agent_card: {skills: [{id: a, name: b, tag: []}]}", '6:40: agent_card.skills[0].tag: is not a field; did you mean "tags"?'),
    "policy two": ("policies: [{type: rai_policy, rai_policy_name: a}, {type: rai_policy, rai_policy_name: b}]", "holds more than one rai_policy; keep one"),
    "policy type": ("policies: [{type: rai, rai_policy_name: a}]", '6:19: policies[0].type: "rai" isn\'t known; write "rai_policy"'),
    "policy name": ("policies: [{type: rai_policy}]", "6:12: policies[0].rai_policy_name: is missing; write the policy's name"),
    "policy protocol": ("policies: [{type: rai_policy, rai_policy_name: a, invocations_moderation: {response_mode: both}}]", '6:75: policies[0].invocations_moderation: needs the protocol "invocations"; add it to protocols'),
    "tab": ("metadata:\n\tteam: a", "7:1: a tab is used for indentation, and YAML takes spaces only"),
    "syntax colon": ("description: a: b", '6:15: not valid YAML: mapping values are not allowed here; text with ": " in it needs quotes'),
    "syntax at": ("description: @a", "6:14: not valid YAML: found character '@' that cannot start any token; put the text in quotes"),
    "syntax quote": ('description: "a', "6:14: this quote is never closed"),
    "syntax bracket": ("metadata: [", "not valid YAML:"),
    "duplicate key": ("name: again", '6:1: "name" is given twice, first in line 2'),
    "template left over": ("description: {{name}}", "a field's name must be text; text that begins with { or [ needs quotes"),
    "control character": ("description: a\x07", "6:15: the character U+0007 isn't allowed in YAML"),
    "tag": ("description: !!python/object:os.system a", "the tag tag:yaml.org,2002:python/object:os.system isn't allowed"),
    "merge": ("metadata: {a: &m {b: c}, <<: *m}", '6:26: merge keys ("<<") aren\'t read'),
    "two documents": ("---\nname: b", '6:1: a second document begins here; remove the "---"'),
    "unknown alias": ("description: *nothing", "6:14: nothing is called &nothing before this"),
    "recursive alias": ("metadata: &a [*a]", "6:15: nothing is called &a before this"),
    "deep": ("metadata: " + "[" * 100_000, "nested more than 32 levels deep"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake(folder: Path, mistake: str) -> None:
    Path("pkg").mkdir()
    Path("out.py").symlink_to(__file__)
    text, expected = MISTAKES[mistake]
    found = problems_of(GOOD + text + "\n")
    assert any(expected in problem for problem in found), found
    if expected[0].isdigit():
        assert any(problem.startswith(f"agent.yaml:{expected}") for problem in found), found


WHOLE_FILES = {
    "empty": ("", "agent.yaml: is empty; write at least kind: hosted"),
    "comment only": ("# nothing\n", "agent.yaml: is empty"),
    "list": ("- a\n", "agent.yaml:1:1: must be a mapping, and is a list"),
    "text": ("hello\n", "agent.yaml:1:1: must be a mapping, and is text"),
    "not utf-8": (b"kind: hosted\nname: caf\xe9\n", "agent.yaml:2:1: is not UTF-8 from byte 22 on"),
    "huge": ("#" * (1024 * 1024 + 1), "agent.yaml: is larger than 1 MiB"),
    "no name": ("protocols: [{protocol: invocations}]", "agent.yaml:1:1: name: is missing; write name: my-agent"),
    "bad name": ("name: my agent!\nprotocols: [{protocol: invocations}]", 'agent.yaml:1:7: name: "my agent!" is not an agent\'s name'),
    "bad name mended": ("name: my_agent\nprotocols: [{protocol: invocations}]", 'for example "my-agent"'),
    "kind": ("kind: workflow\nname: a\nprotocols: [{protocol: invocations}]", 'agent.yaml:1:7: kind: "workflow" is not a kind trunkline runs; write "hosted"'),
    "no protocols": ("name: a", "agent.yaml:1:1: protocols: is missing; write protocols: [{protocol: invocations_ws, version: 1.0.0}]"),
    "empty protocols": ("name: a\nprotocols: []", "agent.yaml:2:12: protocols: is empty; write [{protocol: invocations_ws"),
    "protocol for protocols": ("name: a\nprotocol: [{protocol: invocations}]", 'agent.yaml:2:1: protocol: is not a field; did you mean "protocols"?'),
    "protocol text": ("name: a\nprotocols: invocations_ws", "agent.yaml:2:12: protocols: must be a list, and is text"),
    "protocol words": ("name: a\nprotocols: [invocations_ws]", "agent.yaml:2:13: protocols[0]: must be a mapping, and is text; write protocol: invocations_ws"),
    "protocol unknown": ("name: a\nprotocols:\n- protocol: invocation_ws", 'agent.yaml:3:13: protocols[0].protocol: "invocation_ws" is not a protocol; did you mean "invocations_ws"?'),
    "protocol far": ("name: a\nprotocols:\n- protocol: zzz", '"zzz" is not a protocol; it may be invocations_ws, invocations'),
    "protocol missing": ("name: a\nprotocols:\n- version: 1.0.0", "agent.yaml:3:3: protocols[0].protocol: is missing; write protocol: invocations_ws"),
    "protocol version": ("name: a\nprotocols:\n- {protocol: invocations, version: latest}", 'agent.yaml:3:36: protocols[0].version: "latest" is not a version; write numbers with dots'),
    "protocol twice": ("name: a\nprotocols:\n- protocol: invocations\n- protocol: invocations", 'agent.yaml:4:13: protocols[1].protocol: "invocations" is listed twice'),
    "protocol not hosted": ("name: a\nprotocols:\n- protocol: a2a", "agent.yaml:3:1: protocols: trunkline doesn't carry a2a; name at least one of invocations_ws, invocations, responses"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WHOLE_FILES)
def test_whole_file(folder: Path, mistake: str) -> None:
    text, expected = WHOLE_FILES[mistake]
    found = problems_of(text)
    assert any(expected in problem for problem in found), found


def test_all_problems_at_once_in_the_files_order(folder: Path) -> None:
    text = "name: a b\nprotocol:\n- protocol: invocation\nresources: {cpu: x}\nenv: []\n"
    assert [problem.split(" ")[0] for problem in problems_of(text)] == [
        "agent.yaml:1:7:",
        "agent.yaml:2:1:",
        "agent.yaml:3:13:",
        "agent.yaml:4:18:",
        "agent.yaml:5:1:",
    ]


def test_problem_has_its_parts(folder: Path) -> None:
    Path("agent.yaml").write_text(GOOD + "resources: {cpu: x}\n")
    with pytest.raises(ManifestError) as caught:
        load_agent(folder)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.column) == ("agent.yaml", 6, 18)
    assert problem.field == "resources.cpu"


def test_default_entry_point_missing(folder: Path) -> None:
    Path("main.py").rename("app.py")
    (found,) = problems_of(GOOD)
    assert found == (
        'agent.yaml:1:1: code_configuration: is missing, and there is no file "main.py" to start; '
        "write code_configuration: {entry_point: app.py}"
    )


def test_alias_bomb_is_bounded(folder: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 12):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]")
    (found,) = problems_of("metadata:\n" + "".join(f"  {line}\n" for line in lines))
    assert "more than 20000 values, aliases counted each time" in found


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        load_agent(tmp_path)
    assert "looked for agent.yaml and agent.yml" in str(caught.value)
    assert "Write agent.yaml with at least kind: hosted, name: my-agent" in str(caught.value)
    (tmp_path / "agnet.yaml").touch()
    with pytest.raises(ManifestError, match=r'is "agnet\.yaml" meant'):
        load_agent(tmp_path)


def test_missing_folder_file_for_folder_and_both_files(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="doesn't exist; name the folder"):
        find_agent_file(tmp_path / "nowhere")
    (tmp_path / "agent.yaml").touch()
    with pytest.raises(ManifestError, match="is not a folder"):
        find_agent_file(tmp_path / "agent.yaml")
    (tmp_path / "agent.yml").touch()
    with pytest.raises(ManifestError, match=r"stands next to agent\.yml; keep one"):
        find_agent_file(tmp_path)


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").mkdir()
    with pytest.raises(ManifestError, match="can't be read"):
        load_agent(tmp_path)
