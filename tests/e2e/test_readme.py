"""What the README and the tutorial say to type, typed."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.support.pages import sections
from tests.support.platform import Platform, clean_environment

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    (found,) = [text for text in blocks if containing in text]
    return found


def test_the_first_agent(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(block("python", "ws_handler"))
    (tmp_path / "agent.yaml").write_text(block("yaml", "kind: hosted"))
    deployed = platform.run("deploy", cwd=tmp_path)
    assert deployed.code == 0, deployed.stderr
    assert deployed.stdout.startswith("parrot 1 ws://127.0.0.1:")
    talked = platform.run("connect", "parrot", "--session-id", "mine", stdin="hello\nthere\n")
    assert talked.code == 0, talked.stderr
    assert talked.stdout == "you said: hello\nyou said: there\n"
    watched = platform.run("monitor", "parrot", "--session-id", "mine")
    assert "somebody is here" in watched.stdout
    assert "code=1000" in watched.stdout


def test_the_client_in_python(platform: Platform, tmp_path: Path) -> None:
    script = tmp_path / "client.py"
    script.write_text(
        block("python", "subprocess").replace(
            "ws://127.0.0.1:8080", platform.url.replace("http", "ws")
        )
    )
    bin_dir = Path(sys.executable).parent
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean_environment()
        | {"PATH": f"{bin_dir}:/usr/bin:/bin", "TRUNKLINE_HOME": str(platform.state_dir)},
    )
    assert done.returncode == 0, done.stderr
    session, said = done.stdout.splitlines()
    assert re.fullmatch(r"session [0-9a-f]{32}", session)
    assert said == "you said: hello"


def test_the_agent_of_the_tutorial(platform: Platform, tmp_path: Path) -> None:
    *_, last_step, manifest = sections("docs/tutorial.md")
    last_step.write(tmp_path)
    manifest.write(tmp_path)
    deployed = platform.run("deploy", cwd=tmp_path)
    assert deployed.code == 0, deployed.stderr
    wanted = '{"label": "tea", "seconds": 1}\n'
    options = ("--session-id", "mine", "--linger-s", "3")
    for before in ([], ["tea"]):
        talked = platform.run("connect", "kitchen", *options, stdin=wanted)
        assert talked.code == 0, talked.stderr
        assert [json.loads(line) for line in talked.stdout.splitlines()] == [
            {"done_before": before},
            {"label": "tea", "left": 1},
            {"done": "tea"},
        ]
    invoked = platform.run("invoke", "kitchen", "--session-id", "mine", "{}")
    assert json.loads(invoked.stdout) == {"done_before": ["tea", "tea"]}
