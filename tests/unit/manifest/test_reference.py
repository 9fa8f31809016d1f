"""docs/reference/agent-yaml.md tells the truth."""

import re
from pathlib import Path

import pytest

from trunkline.manifest.agent_yaml import load_agent
from trunkline.manifest.errors import ManifestError

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/agent-yaml.md").read_text()
#: Of the agent.yaml itself; the files that are described after it have examples of their own.
OF_THE_FILE = PAGE.split("\n## azure.yaml\n")[0]
BLOCKS = re.findall(r"```yaml\n(.*?)```", OF_THE_FILE, re.DOTALL)


def test_examples_together_are_a_good_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("main.py").touch()
    Path("agent.yaml").write_text(BLOCKS[0])
    assert load_agent(Path()).name == "my-voice-agent"
    Path("app").mkdir()
    Path("app/main.py").touch()
    text = "".join(BLOCKS).replace(
        "version: 1.0.0\n", "version: 1.0.0\n  - protocol: invocations\n"
    )
    Path("agent.yaml").write_text(text)
    assert load_agent(Path()).policies


def test_errors_are_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("main.py").touch()
    Path("agent.yaml").write_text(
        "kind: hosted\nname: my_agent\nprotocol:\n  - protocol: invocation_ws\n"
    )
    (shown,) = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)
    with pytest.raises(ManifestError) as caught:
        load_agent(Path())
    assert str(caught.value) == shown
