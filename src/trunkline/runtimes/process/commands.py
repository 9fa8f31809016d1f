"""Runs the tools a build needs, their words in the build's log."""

import codecs
import contextlib
import os
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL

from trunkline.runtimes.interface import BuildLog
from trunkline.runtimes.process.child import start_child
from trunkline.runtimes.process.output import OutputPipe

_KEPT_LINES = 200
_MAX_LINE_CHARS = 16 * 1024
_SECRET_VALUE_CHARS = 4

_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
_SECRET_NAME = re.compile(r"PASSWORD|TOKEN|SECRET|CREDENTIAL|USERNAME", re.IGNORECASE)
#: What an installer and the build of a source distribution may see of the platform's
#: environment: a source distribution's build runs its author's code.
_INHERITED = re.compile(
    r"PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|NETRC|XDG_\w+|SSL_CERT_(?:FILE|DIR)"
    r"|(?:HTTPS?|ALL|NO)_PROXY|(?:https?|all|no)_proxy"
    r"|UV_(?!PROJECT|WORKING_DIR|PYTHON\b|PUBLISH)\w+"
)


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended."""

    returncode: int
    lines: tuple[str, ...]
    """The last lines it printed, without secrets."""


def tool_environment(platform: Mapping[str, str]) -> dict[str, str]:
    """Return the environment builds run in."""
    env = {name: value for name, value in platform.items() if _INHERITED.fullmatch(name)}
    env.setdefault("PATH", os.defpath)
    return env


class Redactor:
    """Takes credentials out of what tools print."""

    def __init__(self, env: Mapping[str, str]) -> None:
        values = {
            value
            for name, value in env.items()
            if _SECRET_NAME.search(name) and len(value) >= _SECRET_VALUE_CHARS
        }
        # Longest first: one secret may be a part of another.
        self._secrets = sorted(values, key=len, reverse=True)

    def clean(self, line: str) -> str:
        """Return the line without the passwords of its URLs and the secrets we know."""
        line = _CREDENTIALS.sub("***@", line)
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line


class Tools:
    """Runs commands one after another for a build."""

    def __init__(self, platform_environment: Mapping[str, str]) -> None:
        self._env = tool_environment(platform_environment)
        self._redactor = Redactor(self._env)

    async def run(self, command: Sequence[str], *, cwd: Path, log: BuildLog | None) -> Result:
        """Run a command to its end; cancelling kills it and all it started.

        Without a ``log``, what it prints on stderr is dropped.
        """
        lines = _Lines(self._redactor, log)
        output = OutputPipe(lines.feed)
        with contextlib.closing(output):
            child = start_child(
                command,
                cwd=cwd,
                env=self._env,
                stdout=output.write_fd,
                stderr=DEVNULL if log is None else output.write_fd,
            )
            output.close_write_end()
            returncode = await child.wait()
            await output.ended.wait()
        lines.end()
        return Result(returncode, tuple(lines.kept))


class _Lines:
    """Splits what a tool prints into lines, and cleans them; one that is too long is cut up."""

    def __init__(self, redactor: Redactor, log: BuildLog | None) -> None:
        self.kept: deque[str] = deque(maxlen=_KEPT_LINES)
        self._redactor = redactor
        self._log = log
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        for line in lines:
            self._take(line.rstrip("\r"))
        if len(self._rest) > _MAX_LINE_CHARS:
            self.end()

    def end(self) -> None:
        if self._rest:
            self._take(self._rest)
            self._rest = ""

    def _take(self, line: str) -> None:
        text = self._redactor.clean(line)
        self.kept.append(text)
        if self._log is not None:
            self._log.write(text + "\n")
