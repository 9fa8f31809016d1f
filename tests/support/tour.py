"""``python -m tests.support.tour > docs/tour.md``: a new user in tmux, and what their screen shows.

Every screen of the page is captured from a terminal in which the commands were typed. It takes tmux
and a minute, and uses a home of its own.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

WIDTH, HEIGHT = 112, 40
_TIMEOUT_S = 120.0
_PROMPT = "$ "

HEAD = """\
# A tour in screens

From nothing to a deployed agent, a recorded call, and a replay that finds what a change broke.
Each screen below was captured from a terminal in which these commands were typed, by
`python -m tests.support.tour`; only the key in the console's link was taken out.

You need an environment with `trunkline[platform]`. What each command does besides is in
[the reference](reference/cli.md).
"""


class Terminal:
    """One tmux window with a shell."""

    def __init__(self, server: str, name: str, home: Path) -> None:
        self._target = f"{server}:{name}"
        self._server = server
        self._home = home

    def type(self, text: str, *, enter: bool = True) -> None:
        """Type a line."""
        self._tmux("send-keys", "-t", self._target, "-l", text)
        if enter:
            self.key("Enter")

    def key(self, name: str) -> None:
        """Press one key, such as ``C-c``."""
        self._tmux("send-keys", "-t", self._target, name)

    def clear(self) -> None:
        """Begin an empty screen."""
        self.key("C-l")
        time.sleep(0.3)
        self._tmux("clear-history", "-t", self._target)

    def until(self, pattern: str, timeout_s: float = _TIMEOUT_S) -> str:
        """Wait until the screen shows something; return the screen."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            screen = self.screen()
            if re.search(pattern, screen, re.MULTILINE):
                # What belongs to it may still be on its way.
                time.sleep(0.4)
                return self.screen()
            time.sleep(0.1)
        raise SystemExit(f"never saw {pattern!r} on:\n{self.screen()}")

    def screen(self) -> str:
        """Return what is on the screen, without the empty end."""
        text = self._tmux("capture-pane", "-p", "-J", "-t", self._target).rstrip()
        text = re.sub(r" +$", "", text.replace(str(self._home), "~"), flags=re.MULTILINE)
        return re.sub(r"#key=[\w-]+", "#key=...", text)

    def run(self, line: str) -> str:
        """Type a command on an empty screen, wait for the next prompt; return the screen."""
        self.clear()
        self.type(line)
        # A prompt alone on the last line: the command is over.
        return self.until(r"\n\$ ?\Z").removesuffix("$").rstrip()

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._server, *words], capture_output=True, text=True, check=True
        )
        return done.stdout


def pages(user: Terminal, server: Terminal) -> Iterator[tuple[str, str]]:
    """Yield a text and the screen that goes with it, step by step."""
    yield (
        "## Make an agent\n\n`init` writes a folder that works.",
        user.run("trunkline init my-agent"),
    )
    user.run("cd my-agent")
    yield "One function is the agent.", user.run("cat main.py")
    yield (
        "Make it yours. This agent shall speak of what it heard:",
        user.run("sed -i 's/you said:/I heard:/' main.py && grep heard main.py"),
    )

    server.run("cd my-agent")
    server.clear()
    server.type("trunkline run")
    yield (
        "## Run it here\n\nIn another terminal, `run` starts a platform for this project alone: "
        "the same gateway, limits, sessions and close codes as deployed.",
        server.until("Ctrl-C stops it"),
    )
    user.clear()
    user.type("trunkline connect my-agent --endpoint local")
    user.until("session [0-9a-f]+")
    user.type("hello")
    user.until("I heard: hello")
    user.key("C-c")
    yield "Talk to it. Ctrl-C says goodbye.", user.until("closed 1000").removesuffix("$").rstrip()
    user.run("sed -i 's/I heard:/I hear:/' main.py")
    yield (
        "Whatever is saved is running a second later.",
        server.until("version 2 of my-agent runs"),
    )
    server.key("C-c")
    server.until("stopped")

    server.clear()
    server.type("trunkline up")
    yield "## Deploy it\n\n`up` is the platform that stays.", server.until("ready http")
    yield (
        "`deploy` uploads the folder, builds its environment, and waits.",
        user.run("trunkline deploy"),
    )
    user.clear()
    user.type("trunkline connect my-agent --timestamps")
    user.until("session [0-9a-f]+")
    user.type("good morning")
    user.until("I hear: good morning")
    user.key("C-d")
    yield (
        "Talk to the deployed one, this time with both sides and their times.",
        user.until("closed 1000").removesuffix("$").rstrip(),
    )
    yield "## Look at it\n\nWhat it printed is kept.", user.run("trunkline monitor my-agent")
    yield "So is who closed the call.", user.run("trunkline why my-agent")
    yield "A session outlives its calls:", user.run("trunkline sessions list my-agent")
    user.run("echo 'remember the milk' > notes.txt")
    yield (
        "And it has files.",
        user.run("trunkline files upload my-agent notes.txt && trunkline files list my-agent"),
    )

    user.clear()
    user.type("trunkline record call.trk my-agent")
    user.until("session [0-9a-f]+")
    for word in ("one", "two", "three"):
        user.type(word)
        user.until(f"I hear: {word}")
    user.key("C-d")
    yield (
        "## Record a call, and replay it\n\n`record` is `connect` that writes every frame down.",
        user.until("recorded .* frames").removesuffix("$").rstrip(),
    )
    yield (
        "The same agent makes no difference:",
        user.run("trunkline replay call.trk my-agent; echo exit code $?"),
    )
    user.run("sed -i 's/I hear: {text}/I hear: {text.upper()}/' main.py && trunkline deploy")
    yield (
        "Change the agent, deploy it, and replay the call. It finds what changed, and tells CI "
        "by its exit code (and with `--junit` in detail).",
        user.run("trunkline replay call.trk my-agent --fast; echo exit code $?"),
    )
    yield (
        "The same recording is a load test. Whether each session said the same is counted, too.",
        user.run("trunkline load call.trk my-agent --sessions 5"),
    )
    yield "## Take it away", user.run("trunkline delete my-agent --force && trunkline list")


def main() -> None:
    """Take the tour, and print the page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        name = f"tour-{os.getpid()}"
        binary = Path(sys.executable).parent
        env = {
            "PATH": f"{binary}:{os.environ['PATH']}",
            "TERM": "xterm-256color",
            "TRUNKLINE_HOME": str(home / ".trunkline-state"),
            "LC_ALL": "C.UTF-8",
        }
        unset = " ".join(
            f"-u {name}" for name in os.environ if name.startswith(("TRUNKLINE_", "FOUNDRY_"))
        )
        given = " ".join(f"{name}={value}" for name, value in env.items())
        shell = f"env {unset} {given} PS1='$ ' bash --norc"
        base = ["tmux", "-L", name]
        size = ["-x", str(WIDTH), "-y", str(HEIGHT)]
        subprocess.run(
            [*base, "new-session", "-d", "-s", name, "-n", "user", *size, "-c", folder, shell],
            check=True,
        )
        try:
            subprocess.run(
                [*base, "new-window", "-d", "-t", name, "-n", "server", "-c", folder, shell],
                check=True,
            )
            user, server = (Terminal(name, window, home) for window in ("user", "server"))
            for terminal in (user, server):
                terminal.until(r"\$")
            print(HEAD)
            for text, screen in pages(user, server):
                print(f"{text}\n\n```\n{screen.strip()}\n```\n", flush=True)
            server.key("C-c")
            server.until(r"\$ ?\Z")
        finally:
            subprocess.run([*base, "kill-server"], check=False)


if __name__ == "__main__":
    main()
