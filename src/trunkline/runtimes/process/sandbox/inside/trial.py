"""Has a session of nobody's run in a fork of a zygote's, to learn what a session does to memory.

It is what any session of the program's host is until its first frame: the host is made, set up and
served, answers that it is ready, and sends a frame back. It runs none of the author's code, has no
secret and reaches nothing, for it is in the zygote's own sandbox. Whatever it leaves there, threads
and connections and all, ends with it: it is killed, and no session is forked from it.
"""

import contextlib
import mmap
import os
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import types
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

from trunkline.runtimes.process.sandbox.inside import kernel
from trunkline.runtimes.process.sandbox.inside.pages import Range, writable, written_by

#: Runs a program of that code with that environment as a session, in a process of its own.
Play = Callable[[Mapping[str, str], types.CodeType], NoReturn]

#: Hosts whose sessions are known, the name of the module an agent imports.
_HOSTS = ("trunkline.agentserver", "azure.ai.agentserver.invocations")
_PROGRAM = """
from {host} import InvocationAgentServerHost

app = InvocationAgentServerHost()


@app.ws_handler
async def echo(websocket):
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app.run()
"""
#: What sessions are told, by the names of the contract; what isn't, isn't needed to start.
_ENVIRONMENT = {
    "FOUNDRY_HOSTING_ENVIRONMENT": "trunkline",
    "FOUNDRY_AGENT_NAME": "agent",
    "FOUNDRY_AGENT_VERSION": "1",
    "FOUNDRY_AGENT_SESSION_ID": "session",
    "FOUNDRY_PROJECT_ENDPOINT": "http://127.0.0.1:9/api/projects/default",
    "WS_KEEPALIVE_INTERVAL": "30",
}
_PORT = 8088
_TIMEOUT_S = 20.0
_STEP_S = 0.005
_READINESS = b"GET /readiness HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_UPGRADE = (
    b"GET /invocations_ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    + b64encode(bytes(16))
    + b"\r\n\r\n"
)
#: A text of two bytes, masked by zeros, and as it comes back.
_FRAME, _ECHO = b"\x81\x82\0\0\0\0hi", b"\x81\x02hi"


class Noted:
    """Numbers that a fork writes down for where it was forked, outside of what it is tried for."""

    _MOST_BYTES = 256 * 1024
    _NUMBER = struct.Struct("Q")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._MOST_BYTES)
        self._end = 0

    def add(self, *numbers: int) -> None:
        """Write some down; what there is no room for is left out."""
        for number in numbers[: (self._MOST_BYTES - self._end) // self._NUMBER.size]:
            self._NUMBER.pack_into(self._memory, self._end, number)
            self._end += self._NUMBER.size

    def __iter__(self) -> Iterator[int]:
        for (number,) in self._NUMBER.iter_unpack(self._memory):
            if number == 0:
                return
            yield number

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Return them by twos."""
        numbers = iter(self)
        return zip(numbers, numbers, strict=False)

    def forget(self) -> None:
        """Have no memory for them any more."""
        self._memory.close()


def code_of_a_session(play: Play) -> Noted:
    """Return where the code is that a session of this process's host runs.

    Args:
        play: Runs a program, in a fork of this process.
    """
    noted = Noted()
    seen: set[int] = set()

    def see(frame: types.FrameType, event: str, _: object) -> None:
        where = id(frame.f_code)
        if event == "call" and where not in seen:
            seen.add(where)
            noted.add(where)

    def play_seen(environment: Mapping[str, str], code: types.CodeType) -> NoReturn:
        threading.setprofile(see)
        sys.setprofile(see)
        play(environment, code)

    _try(play_seen, lambda _session, _mapped: None)
    return noted


def written_by_a_session(play: Play) -> Noted:
    """Return what a session of this process's host writes to: where each begins, and its bytes.

    Args:
        play: Runs a program, in a fork of this process.
    """
    noted = Noted()

    def note(session: int, mapped: list[Range]) -> None:
        for place in written_by(session, mapped):
            noted.add(*place)

    _try(play, note)
    return noted


def _try(play: Play, look: Callable[[int, list[Range]], None]) -> None:
    """Have a session, and look at it; if it can't be had, there is nothing to see.

    This process does nothing meanwhile, so that sessions find it as the one did that was tried.
    """
    host = next((name for name in _HOSTS if name in sys.modules), None)
    if host is None:
        return
    code = compile(_PROGRAM.format(host=host), "<trial>", "exec", dont_inherit=True)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "s")
        environment = _ENVIRONMENT | {
            "HOME": folder, "PORT": str(_PORT), "TRUNKLINE_AGENT_SOCKET": path,
        }  # fmt: skip
        mapped = writable()
        observer = os.fork()
        if observer == 0:
            try:
                # Before it has written to anything that would be seen as the session's then.
                session = os.fork()
                kernel.die_with_parent(signal.SIGKILL)
                if session == 0:
                    os.setsid()
                    play(environment, code)
                _observe(session, path, lambda: look(session, mapped))
            finally:
                os._exit(0)
        os.waitpid(observer, 0)


def _observe(session: int, path: str, look: Callable[[], None]) -> None:
    """Be its caller, look at it, and end it.

    Raises:
        OSError: If there is something wrong with it. A session tells its author what.
    """
    try:
        _talk(session, path)
        look()
    finally:
        with contextlib.suppress(ProcessLookupError):
            # And what it has started.
            os.killpg(session, signal.SIGKILL)
        os.kill(session, signal.SIGKILL)
        os.waitpid(session, 0)


def _talk(session: int, path: str) -> None:
    """Be its caller.

    Raises:
        OSError: If it doesn't answer as a host does.
    """
    until = time.monotonic() + _TIMEOUT_S
    with _connect(session, path, until) as caller:
        caller.sendall(_READINESS)
        _expect(_read_until(caller, b"\r\n\r\n").startswith(b"HTTP/1.1 200 "))
    with _connect(session, path, until) as caller:
        caller.sendall(_UPGRADE)
        _expect(_read_until(caller, b"\r\n\r\n").startswith(b"HTTP/1.1 101 "))
        caller.sendall(_FRAME)
        # A ping may come before it.
        _read_until(caller, _ECHO)


def _connect(session: int, path: str, until: float) -> socket.socket:
    while True:
        for family, address in ((socket.AF_UNIX, path), (socket.AF_INET, ("127.0.0.1", _PORT))):
            caller = socket.socket(family)
            caller.settimeout(_TIMEOUT_S)
            try:
                caller.connect(address)
            except (ConnectionRefusedError, FileNotFoundError):
                caller.close()
            else:
                return caller
        if time.monotonic() > until or _has_ended(session):
            raise TimeoutError
        time.sleep(_STEP_S)


def _has_ended(session: int) -> bool:
    return os.waitid(os.P_PID, session, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _read_until(caller: socket.socket, end: bytes) -> bytes:
    got = b""
    while end not in got:
        data = caller.recv(4096)
        if not data:
            raise ConnectionResetError
        got += data
    return got


def _expect(is_so: bool) -> None:
    if not is_so:
        raise ConnectionAbortedError
