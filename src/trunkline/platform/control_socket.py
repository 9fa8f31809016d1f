"""Where a platform on this machine is asked to be replaced, and tells what became of it.

One Unix socket for each platform that uses a state directory, named by the number of the process
that one supervises. Only this user reaches it.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from trunkline.platform.handover import PlatformEndsError
from trunkline.protocol.errors import TrunklineError

_FOLDER: Final = "run"
_SUFFIX: Final = ".sock"
#: A new process may take a minute to be ready, and old connections as long to move.
ANSWER_TIMEOUT_S: Final = 180.0
_Report = Mapping[str, Any]


class NoPlatformError(TrunklineError):
    """There is no platform, or more than one, that the state directory could mean."""

    code = "no_such_platform"


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    # A socket's path may have 107 bytes, and a state directory's is the operator's choice.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class ControlSocket:
    """The socket of one platform, in the process that serves."""

    def __init__(self, state_dir: Path, reload: Callable[[], Awaitable[_Report]]) -> None:
        """Prepare.

        Args:
            state_dir: The state directory.
            reload: Has the process replaced; returns what is to be told of it.
        """
        self._reload = reload
        folder = state_dir / _FOLDER
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / f"{os.getppid()}{_SUFFIX}"
        self._server: asyncio.Server | None = None
        self._is_ours = True

    async def open(self) -> None:
        """Listen, in the place of the process that did before."""
        draft = self._path.with_name(f".{os.getpid()}{_SUFFIX}")
        draft.unlink(missing_ok=True)
        with _short(draft) as name:
            self._server = await asyncio.start_unix_server(self._serve, name)
        draft.replace(self._path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer: _Report
        try:
            if await reader.readline() != b"reload\n":
                return
            answer = dict(await self._reload())
        except PlatformEndsError as exc:
            answer = {"failed": str(exc), "goes_on": False}
        except TrunklineError as exc:
            answer = {"failed": str(exc)}
        except Exception as exc:  # noqa: BLE001 - whoever waits is told, the log has the rest
            answer = {"failed": f"something broke: {type(exc).__name__}"}
        finally:
            writer.write(json.dumps(answer).encode() + b"\n")
            writer.close()

    def let_go(self) -> None:
        """Leave the name: another process listens there."""
        self._is_ours = False

    def close(self) -> None:
        """Listen no more. Twice is fine."""
        if self._server is not None:
            self._server.close()
            self._server = None
            if self._is_ours:
                self._path.unlink(missing_ok=True)


def request_reload(state_dir: Path, pid: int | None) -> dict[str, Any]:
    """Have a platform replaced and wait for it; return what it tells.

    Args:
        state_dir: The state directory.
        pid: Which platform, if several use it: the process that is supervised.

    Raises:
        NoPlatformError: If it isn't clear which, or none runs.
    """
    with _connected(state_dir, pid) as sock, sock.makefile("rb") as answers:
        sock.sendall(b"reload\n")
        line = answers.readline()
    if not line:
        raise NoPlatformError("the platform ended before it told what became of the reload")
    answer: dict[str, Any] = json.loads(line)
    return answer


@contextlib.contextmanager
def _connected(state_dir: Path, pid: int | None) -> Iterator[socket.socket]:
    found: dict[str, socket.socket] = {}
    try:
        for path in (state_dir / _FOLDER).glob(f"[0-9]*{_SUFFIX}"):
            if pid is not None and path.stem != str(pid):
                continue
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(ANSWER_TIMEOUT_S)
            try:
                with _short(path) as name:
                    sock.connect(name)
                found[path.stem] = sock
            except OSError:
                # One that was killed has left its name.
                sock.close()
        if not found:
            raise NoPlatformError(
                f"no platform runs on {state_dir}; name its state directory with --state-dir"
            )
        if len(found) > 1:
            raise NoPlatformError(
                f"several platforms run on {state_dir}; choose one with --pid: "
                + ", ".join(sorted(found))
            )
        yield next(iter(found.values()))
    finally:
        for sock in found.values():
            sock.close()
