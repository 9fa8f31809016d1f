# ruff: noqa: E501 - a mistake a line: its text, and what must be said of it
"""agent.manifest.yaml: what is filled in, what is asked for, and its mistakes."""

from pathlib import Path

import pytest

from trunkline.manifest.agent_yaml import load_agent
from trunkline.manifest.errors import ManifestError
from trunkline.manifest.template import Manifest, load_manifest
from trunkline.protocol.errors import InvalidRequestError

GOOD = """\
name: tutor
displayName: A tutor
template:
  kind: hosted
  name: "{{ agent_name }}"
  description: 'Teaches {{subject}}: "well"'
  protocols:
    - protocol: invocations_ws
      version: 1.0.0
  resources: {cpu: "1", memory: 2Gi}
  environment_variables:
    - name: MODEL
      value: "{{model}}"
    - name: KEY
      value: ${KEY}
    - name: LATER
      value: "${{connections.x.credentials.y}}"
parameters:
  agent_name:
    schema: {type: string}
    description: What it is called
  subject: maths
  model:
    schema: {type: string, enum: [small, large], default: small}
  level: {schema: {type: integer}, required: false}
resources:
  - {kind: model, name: chat}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("main.py").touch()


def load(text: str = GOOD) -> Manifest:
    Path("agent.manifest.yaml").write_text(text)
    return load_manifest(Path("agent.manifest.yaml"))


def problems_of(text: str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load(text)
    return [str(problem) for problem in caught.value.problems]


def test_a_filled_template_is_an_agent() -> None:
    manifest = load()
    filled = manifest.fill({"agent_name": "my-tutor", "subject": 'a "b": c\n#d'})
    assert filled.left == ()
    Path("agent.yaml").write_text(filled.text)
    agent = load_agent(Path())
    assert agent.name == "my-tutor"
    assert agent.description == 'Teaches a "b": c\n#d: "well"'
    assert agent.protocols[0].version == "1.0.0"
    assert agent.resources.cpu == "1"
    values = {variable.name: variable.value for variable in agent.environment_variables}
    assert values == {
        "MODEL": "small",
        "KEY": "${KEY}",
        "LATER": "${{connections.x.credentials.y}}",
    }
    assert manifest.resources == ("model chat",)
    assert [parameter.name for parameter in manifest.parameters] == [
        "agent_name",
        "subject",
        "model",
        "level",
    ]
    assert manifest.parameters[0].description == "What it is called"


@pytest.mark.parametrize(
    "value", ["yes", "true", "1.10", "", "- x", "null", "a: b", "#c", "é'\"\\"]
)
def test_values_stay_text(value: str) -> None:
    filled = load().fill({"agent_name": "a", "subject": value})
    Path("agent.yaml").write_text(filled.text)
    assert load_agent(Path()).description == f'Teaches {value}: "well"'


def test_placeholders_nothing_is_known_of_are_left() -> None:
    filled = load(GOOD.replace("{{subject}}", "{{ topic }}")).fill({"agent_name": "a"})
    assert filled.left == ("topic",)
    assert "{{ topic }}" in filled.text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "the manifest asks for agent_name: add --param agent_name=..."),
        ({"agent_nme": "a"}, "has no parameter 'agent_nme'; did you mean 'agent_name'?"),
        ({"agent_name": "a", "model": "smal"}, "model: 'smal' is none of its values; did you mean 'small'?"),
        ({"agent_name": "a", "level": "x"}, "level: 'x' isn't of the type integer"),
    ],
)  # fmt: skip
def test_values_that_dont_fit(values: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        load().fill(values)
    assert said in str(caught.value)


def test_a_secret_is_not_repeated() -> None:
    manifest = load(
        GOOD.replace(
            "{type: integer}, required: false", "{type: integer}, required: false, secret: true"
        )
    )
    with pytest.raises(InvalidRequestError) as caught:
        manifest.fill({"agent_name": "a", "level": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_parameters_may_be_a_list_of_properties() -> None:
    text = "template: {kind: hosted, name: '{{n}}'}\nparameters:\n  properties:\n    - {name: n, default: x}\n"
    assert load(text).fill({}).text == "kind: hosted\nname: x\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\n", "agent.manifest.yaml:1:1: template: is missing"),
        ("template: {name: x}\n", "agent.manifest.yaml:1:11: template.kind: is missing; write kind: hosted"),
        ("template: []\n", "must be a mapping, and is a list"),
        ("kind: hosted\ntemplate: {kind: hosted}\n", "agent.manifest.yaml:1:1: kind: is not a field here; this is an agent.manifest.yaml: write it below template"),
        ("templat: {kind: hosted}\n", 'did you mean "template"?'),
        ("template: {kind: hosted}\nparameters: {a: {schma: {}}}\n", 'parameters.a.schma: is not a field; did you mean "schema"?'),
        ("template: {kind: hosted}\nparameters: {a: {schema: {type: date}}}\n", '"date" is not a type'),
        ("template: {kind: hosted}\nparameters: [{}]\n", "parameters[0].name: is missing"),
        ("template: {kind: hosted}\nparameters: 3\n", "must be a mapping of names, and is a number"),
        ("[]", "must be a mapping"),
        ("a: [", "not valid YAML"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_place(text: str, said: str) -> None:
    assert said in "\n".join(problems_of(text))
