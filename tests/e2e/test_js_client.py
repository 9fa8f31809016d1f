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

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "js"
NPM = ROOT / ".cache" / "npm" / "node_modules"
NODE = shutil.which("node") or "node"


def run(*command: str, at: Path = CLIENT, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=at,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def echo(platform: Platform) -> None:
    platform.deploy(AGENTS.parents[2] / "samples" / "echo")


def test_its_own_tests_pass(platform: Platform, probe: str, token: str) -> None:
    assert probe == "probe"
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


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of somebody who has installed the package, and nothing else."""
    folder = tmp_path_factory.mktemp("packed")
    source, user = folder / "source", folder / "user"
    user.mkdir()
    shutil.copytree(CLIENT, source, ignore=shutil.ignore_patterns("node_modules", "types"))
    (source / "node_modules").symlink_to(NPM)
    home = {"HOME": str(folder), "npm_config_update_notifier": "false"}
    path = f"{NPM / '.bin'}:{os.environ['PATH']}"
    run("npm", "pack", "--offline", "--pack-destination", str(user), at=source, PATH=path, **home)
    (tarball,) = user.glob("trunkline-client-*.tgz")
    (user / "package.json").write_text('{"type": "module", "private": true}')
    run("npm", "install", "--offline", "--no-audit", "--no-fund", str(tarball), at=user, **home)
    installed = sorted(
        path.name for path in (user / "node_modules").iterdir() if path.name[0] != "."
    )
    assert installed == ["@trunkline"]
    return user


USER_TS = """
import { ClosedError, connect, type Close, type ConnectOptions } from "@trunkline/client";
import { Microphone, Speaker, type Frame } from "@trunkline/client/audio";

const endpoint = "https://h.example/api/projects/p";
const options: ConnectOptions = { endpoint, agent: "a", token: "t" };
export async function talk(context: AudioContext): Promise<Close> {
  const on = { lost: ({ code, words }: Close) => console.log(code + 1, words) };
  const call = await connect({ ...options, on });
  const speaker = await Speaker.open({ context });
  const onFrame = ({ bytes, level }: Frame) => level.rms > 0 && call.trySend(bytes);
  await Microphone.open({ context, onFrame });
  for await (const message of call) {
    if (typeof message === "string") console.log(message.length);
    else speaker.play(message as Uint8Array<ArrayBuffer>);
  }
  return call.closed;
}
// @ts-expect-error An agent has to be named.
void connect({ endpoint: "https://h.example" });
// @ts-expect-error It is a number.
export const wrong: string = new ClosedError({ code: 1, reason: "", words: "" }).close.code;
"""


def test_who_installs_the_package_has_types(packed: Path) -> None:
    (packed / "user.ts").write_text(USER_TS)
    run(
        str(NPM / ".bin" / "tsc"), "--strict", "--noEmit", "--module", "nodenext",
        "--target", "es2022", "--lib", "es2022,dom,dom.iterable,esnext.disposable",
        "--types", "node", "--typeRoots", str(NPM / "@types"), "user.ts", at=packed,
    )  # fmt: skip


def test_who_installs_the_package_can_talk(packed: Path, platform: Platform, token: str) -> None:
    (packed / "user.js").write_text(
        'import { connect } from "@trunkline/client";\n'
        "const { ENDPOINT: endpoint, TOKEN: token } = process.env;\n"
        'const call = await connect({ endpoint, token, agent: "echo" });\n'
        'await call.send("packed");\n'
        "for await (const message of call) { console.log(message); call.close(); }\n"
    )
    out = run(NODE, "user.js", at=packed, ENDPOINT=platform.endpoint, TOKEN=token)
    assert out == "packed\n"


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
    package = json.loads((CLIENT / "package.json").read_text())
    assert package["version"] == __version__
    assert "dependencies" not in package
    tools = json.loads((ROOT / "tests" / "support" / "npm" / "package.json").read_text())
    assert package["devDependencies"].items() <= tools["devDependencies"].items()
