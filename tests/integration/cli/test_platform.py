"""The command's whole story, against the platform it starts itself."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli.box import MAIN_PY, Box

# The first one waits for a platform, and for its agent's environment to be built.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    box = Box(tmp_path_factory.mktemp("box"))
    box.start()
    try:
        assert box.run("env", "set", "GREETING", "hello you").returncode == 0
        deployed = box.run("deploy")
        assert deployed.returncode == 0, deployed.stderr
        assert re.fullmatch(r"parrot 1 ws://127\.0\.0\.1:\d+/api/projects/\S+\n", deployed.stdout)
        yield box
    finally:
        box.stop()


def test_connect(box: Box) -> None:
    done = box.run("connect", "parrot", stdin="one\ntwo\n")
    assert (done.returncode, done.stdout) == (0, "hello you\none\ntwo\n"), done.stderr
    assert re.search(r"^session [0-9a-f]+$", done.stderr, re.MULTILINE)


def test_the_agents_own_close_code(box: Box) -> None:
    done = box.run("connect", "parrot", stdin="leave\n")
    assert done.returncode == 3
    assert "closed 4002: the application's own code (left)" in done.stderr


def test_an_agent_that_fails_shows_why(box: Box) -> None:
    done = box.run("connect", "parrot", stdin="fail\n")
    assert done.returncode == 3
    assert "closed 1011" in done.stderr
    log = box.run("monitor", "parrot")
    assert "a caller came" in log.stdout
    assert "RuntimeError: as asked" in log.stdout


def test_ctrl_c_says_goodbye(box: Box) -> None:
    talk = box.popen("connect", "parrot", err=subprocess.PIPE)
    assert talk.stdout is not None
    assert talk.stdout.readline() == "hello you\n"
    talk.send_signal(signal.SIGINT)
    _, err = talk.communicate()
    assert talk.returncode == 0
    assert "closed 1000" in err


def test_a_file_there_and_back(box: Box, tmp_path: Path) -> None:
    sound, heard = tmp_path / "in.pcm", tmp_path / "out.pcm"
    sound.write_bytes(os.urandom(6400))
    done = box.run(
        *("connect", "parrot", "--send-file", str(sound), "--frame-bytes", "640"),
        *("--interval-ms", "5", "--out", str(heard)),
    )
    assert done.returncode == 0, done.stderr
    assert heard.read_bytes() == sound.read_bytes()


def test_invoke(box: Box) -> None:
    done = box.run("invoke", "parrot", '{"a": 1}')
    assert (done.returncode, done.stdout) == (0, '{"a": 1}'), done.stderr


def test_acting_for_somebody_takes_a_role(box: Box) -> None:
    refused = box.run("sessions", "list", "parrot", "--user-identity", "alice")
    assert refused.returncode == 1
    assert "takes the role impersonator" in refused.stderr
    token = box.run("token", "--role", "invoker", "--role", "impersonator").stdout.strip()
    box.env["TRUNKLINE_TOKEN"] = token
    try:
        done = box.run("invoke", "parrot", "hi", "--user-identity", "alice")
    finally:
        del box.env["TRUNKLINE_TOKEN"]
    assert (done.returncode, done.stdout) == (0, "hi"), done.stderr


def test_the_code_comes_back(box: Box) -> None:
    done = box.run("code", "download", "parrot", "--dest", "back")
    assert done.returncode == 0, done.stderr
    back = box.project / "back"
    assert (back / "main.py").read_text() == MAIN_PY


def test_a_wrong_token(box: Box) -> None:
    box.env["TRUNKLINE_TOKEN"] = "wrong"
    try:
        done = box.run("list")
    finally:
        del box.env["TRUNKLINE_TOKEN"]
    assert done.returncode == 1
    assert "set TRUNKLINE_TOKEN to a fresh token" in done.stderr


def test_a_log_is_followed_across_a_restart(box: Box) -> None:
    sid = "followed-session"
    assert box.run("connect", "parrot", "-s", sid, stdin="one\n").returncode == 0
    follower = box.popen("monitor", "parrot", "-s", sid, "--follow", err=subprocess.DEVNULL)
    assert follower.stdout is not None
    try:
        while "a caller came" not in follower.stdout.readline():
            pass
        port = box.env["TRUNKLINE_ENDPOINT"].rpartition(":")[2]
        box.stop()
        box.start(port)
        assert box.run("connect", "parrot", "-s", sid, stdin="two\n").returncode == 0
        seen = ""
        while "a caller came" not in seen:
            seen = follower.stdout.readline()
    finally:
        follower.send_signal(signal.SIGINT)
        follower.communicate()
    assert follower.returncode == 130
