"""``init`` with a manifest that is somewhere else on the web."""

from pathlib import Path

import pytest
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from tests.integration.cli.conftest import FakePlatform, Run
from trunkline.cli import fetching
from trunkline.cli.exits import ExitCode
from trunkline.manifest.agent_yaml import load_agent

MANIFEST = """\
template:
  kind: hosted
  name: '{{n}}'
  protocols: [{protocol: invocations_ws, version: 1.0.0}]
parameters: {n: {}}
"""


def address(platform: FakePlatform, name: str, page: Response) -> str:
    platform.pages[name] = page
    return f"{platform.url}/pages/{name}"


def test_it_is_fetched_and_filled_in(cli: Run, platform: FakePlatform) -> None:
    there = address(platform, "manifest", PlainTextResponse(MANIFEST))
    url = address(platform, "moved", RedirectResponse(there))
    Path("mine").mkdir()
    Path("mine/main.py").write_text("print(1)\n")
    done = cli("init", "mine", "-m", url, "--param", "n=x")
    assert (done.code, done.out) == (0, "mine/agent.yaml\n"), done.err
    assert load_agent(Path("mine")).name == "x"


def test_it_brings_no_code(cli: Run, platform: FakePlatform) -> None:
    url = address(platform, "manifest", PlainTextResponse(MANIFEST))
    done = cli("init", "mine", "-m", url, "--param", "n=x")
    assert done.code == 0
    assert "the agent isn't whole yet: put its code into mine" in done.err
    assert 'there is no file "main.py" to start' in done.err
    assert Path("mine/agent.yaml").exists()


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (HTMLResponse("<p>hello"), "is a page for people"),
        (PlainTextResponse("no", 404), "it answers 404"),
        (PlainTextResponse("x" * (fetching.MAX_BYTES + 1)), "larger than 1 MiB"),
        (PlainTextResponse("a: ["), "agent.manifest.yaml"),
    ],
)
def test_what_is_no_manifest(cli: Run, platform: FakePlatform, page: Response, said: str) -> None:
    url = address(platform, "manifest", page) + "?sig=secret"
    done = cli("init", "mine", "-m", url)
    assert done.code == ExitCode.USAGE
    assert said in done.err
    assert "secret" not in done.err
    assert not Path("mine").exists()


def test_nobody_there(cli: Run) -> None:
    done = cli("init", "mine", "-m", "http://user:hush@127.0.0.1:1/agent.manifest.yaml")
    assert done.code == ExitCode.USAGE
    assert "127.0.0.1:1/agent.manifest.yaml can't be fetched" in done.err
    assert "hush" not in done.err
