"""What `init` writes."""

import ast
from pathlib import Path

import pytest

from trunkline.cli import scaffold
from trunkline.cli.main import main
from trunkline.cli.scaffold import TEMPLATES, find_code, name_for, template_files
from trunkline.manifest.agent_yaml import load_agent

AGENT = "@app.ws_handler\nasync def talk(ws): ...\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_every_template_is_an_agent(template: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "new", "--template", template, "--agent-name", "mine"]) == 0
    shown = capsys.readouterr()
    agent = load_agent(Path("new"))
    assert agent.name == "mine"
    written = {path.name for path in Path("new").iterdir()}
    assert written == {file.path for file in template_files(template, "mine")}
    assert {Path(line).name for line in shown.out.splitlines()} == written
    assert "cd new && trunkline run" in shown.err
    for path in Path("new").glob("*.py"):
        ast.parse(path.read_text())
    found = find_code(Path("new"))
    assert set(found.protocols) == {protocol.protocol for protocol in agent.protocols}


def test_there_is_no_template_that_isnt_listed() -> None:
    folder = Path(scaffold.__file__).parent / "templates"
    assert {path.name for path in folder.iterdir()} == set(TEMPLATES)


def test_nothing_is_replaced_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "a"]) == 0
    Path("a/main.py").write_text("mine")
    assert main(["init", "a", "--template", "echo"]) == 2
    assert "has agent.yaml, main.py" in capsys.readouterr().err.replace(".agentignore, ", "")
    assert Path("a/main.py").read_text() == "mine"
    assert main(["init", "a", "--template", "echo", "--force"]) == 0
    assert Path("a/main.py").read_text() != "mine"


def test_existing_code_gets_an_agent_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bot.py").write_text(AGENT)
    Path("util.py").write_text("")
    assert main(["init"]) == 2
    assert "bot.py, util.py: say which file starts it with --entry-point" in capsys.readouterr().err
    assert main(["init", "--entry-point", "bot.py", "--agent-name", "bot"]) == 0
    assert "bot.py speaks invocations_ws" in capsys.readouterr().err
    agent = load_agent(Path())
    assert agent.code is not None
    assert agent.code.entry_point == "bot.py"
    assert agent.hosted_protocols == ("invocations_ws",)


def test_code_that_tells_no_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    Path("main.py").write_text("print(1)")
    assert main(["init", "--agent-name", "a"]) == 2
    assert "say which it speaks with --protocol" in capsys.readouterr().err
    assert main(["init", "--agent-name", "a", "--protocol", "invocation"]) == 2
    assert 'did you mean "invocations"?' in capsys.readouterr().err
    assert main(["init", "--agent-name", "a", "--protocol", "invocations"]) == 0


def test_an_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "a", "--image", "voice"]) == 2
    assert "is not a full image reference" in capsys.readouterr().err
    assert main(["init", "a", "--image", "registry.example.com/voice:1", "-o", "json"]) == 0
    assert load_agent(Path("a")).image == "registry.example.com/voice:1"


def test_a_manifest_with_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    Path("sample").mkdir()
    Path("sample/agent.manifest.yaml").write_text(
        "template:\n  kind: hosted\n  name: '{{n}}'\n"
        "  protocols: [{protocol: invocations_ws, version: 1.0.0}]\nparameters: {n: {}}\n"
    )
    Path("sample/main.py").write_text(AGENT)
    assert main(["init", "mine", "-m", "sample", "--no-prompt"]) == 2
    assert "--param n=..." in capsys.readouterr().err
    assert not Path("mine").exists()
    assert main(["init", "mine", "-m", "sample/agent.manifest.yaml", "--param", "n=x"]) == 0
    assert load_agent(Path("mine")).name == "x"
    assert Path("mine/main.py").read_text() == AGENT


@pytest.mark.parametrize(
    ("folder", "name"), [("My Agent!", "my-agent"), ("___", "my-agent"), ("a" * 80, "a" * 63)]
)
def test_names_of_folders(folder: str, name: str) -> None:
    assert name_for(Path(folder)) == name


def test_a_template_or_a_name_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "a", "--template", "ecco"]) == 2
    assert 'did you mean "echo"?' in capsys.readouterr().err
    assert main(["init", "a", "--agent-name", "no good"]) == 2
