"""The JavaScript client against a real platform; its own tests run on Node."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import AGENTS
from tests.support.platform import Platform
from trunkline import __version__
from trunkline.client._resume import RESUMABLE
from trunkline.protocol.close import WORDS

pytestmark = pytest.mark.timeout(150)
ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "js"
NPM = ROOT / ".cache" / "npm" / "node_modules"
NODE = shutil.which("node") or "node"


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=CLIENT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass(platform: Platform, probe: str, token: str) -> None:
    assert probe == "probe"
    platform.deploy(AGENTS.parents[2] / "samples" / "echo")
    files = [str(path) for path in sorted((CLIENT / "test").glob("*.test.js"))]
    out = run(
        NODE, "--test", "--test-reporter=tap", *files,
        CLIENT_TEST_ENDPOINT=platform.endpoint, CLIENT_TEST_TOKEN=token,
    )  # fmt: skip
    passed = re.search(r"^# pass (\d+)$", out, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) >= 40, out
    assert "# skipped 0" in out


def test_its_types_hold() -> None:
    run(str(NPM / ".bin" / "tsc"), "--project", "tsconfig.json", "--typeRoots", str(NPM / "@types"))


def test_it_says_of_close_codes_what_the_platform_says() -> None:
    told = run(
        NODE, "--input-type=module", "--eval",
        'import { WORDS, isResumable } from "./src/close.js";'
        "const back = Object.keys(WORDS).filter((code) => isResumable(+code));"
        "console.log(JSON.stringify({ WORDS, back }))",
    )  # fmt: skip
    said = json.loads(told)
    assert {int(code): words for code, words in said["WORDS"].items()} == WORDS
    assert {int(code) for code in said["back"]} == RESUMABLE


def test_its_version_is_the_platforms() -> None:
    assert json.loads((CLIENT / "package.json").read_text())["version"] == __version__
