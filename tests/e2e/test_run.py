"""From nothing to an agent that runs here: init, run, connect, change, connect again."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.platform import clean_environment


class Shell:
    """A user's terminal, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = clean_environment() | {
            "TRUNKLINE_HOME": str(folder.parent / "home"),
            "NO_COLOR": "1",
        }

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "trunkline", *words],
            input=stdin, capture_output=True, text=True, cwd=self.folder, env=self.env,
            timeout=120, check=False,
        )  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "trunkline", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder,
            env=self.env,
        )  # fmt: skip


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    folder = tmp_path / "my-agent"
    folder.mkdir()
    return Shell(folder)


@pytest.fixture
def running(shell: Shell) -> Iterator[subprocess.Popen[str]]:
    assert shell.run("init").returncode == 0
    process = shell.start("run", "--port", "0", "--fault", "1001-after=1.5s")
    try:
        yield process
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()


def until(process: subprocess.Popen[str], text: str, *, of_stderr: bool = True) -> str:
    stream = process.stderr if of_stderr else process.stdout
    assert stream is not None
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"it ended without saying {text!r}")


def test_an_agent_runs_here(shell: Shell, running: subprocess.Popen[str]) -> None:
    ready = until(running, "ready ws://", of_stderr=False)
    assert "/agents/my-agent/endpoint/protocols/invocations_ws" in ready
    done = shell.run(
        "connect", "my-agent", "--endpoint", "local", "--linger-s", "0.3", stdin="hi\n"
    )
    assert (done.returncode, done.stdout) == (0, "you said: hi\n"), done.stderr
    assert "a caller came" in until(running, "a caller came", of_stderr=False)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert "stopped" in err
    done = shell.run("connect", "my-agent", "--endpoint", "local", stdin="")
    assert done.returncode == 2
    assert "start it with `trunkline run`" in done.stderr


@pytest.mark.long
def test_it_follows_its_files_and_its_faults(shell: Shell, running: subprocess.Popen[str]) -> None:
    until(running, "ready ws://", of_stderr=False)
    main = shell.folder / "main.py"
    main.write_text(main.read_text().replace("you said", "YOU SAID"))
    until(running, "main.py changed")
    until(running, "version 2 of my-agent runs")
    # A connection's age is the platform's to end, as it is where it is deployed.
    done = shell.run("connect", "my-agent", "--endpoint", "local", "--linger-s", "20", stdin="hi\n")
    assert (done.returncode, done.stdout) == (3, "YOU SAID: hi\n"), done.stderr
    assert "closed 1001" in done.stderr
    assert "max_connection_s" in done.stderr


def test_a_call_is_cut_as_asked(shell: Shell) -> None:
    assert shell.run("init").returncode == 0
    process = shell.start("run", "--port", "0", "--fault", "drop=1s")
    try:
        until(process, "ready ws://", of_stderr=False)
        options = ("--endpoint", "local", "--linger-s", "60", "--no-reconnect")
        done = shell.run("connect", "my-agent", *options, stdin="hi\n")
        assert (done.returncode, done.stdout) == (3, "you said: hi\n"), done.stderr
        assert "1006" in done.stderr
        # The platform and its session are as well as before.
        assert "my-agent" in shell.run("list", "--endpoint", "local").stdout
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_bad_agent_is_told_before_anything_starts(shell: Shell) -> None:
    (shell.folder / "agent.yaml").write_text("kind: hosted\nnme: a\n")
    done = shell.run("run")
    assert done.returncode == 2
    assert 'did you mean "name"?' in done.stderr
    done = shell.run("run", "--fault", "drop")
    assert done.returncode == 2
    assert "needs a time" in done.stderr
