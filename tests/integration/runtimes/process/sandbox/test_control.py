"""What a sandbox sends to the platform, and whose that is when the sandbox has ended."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

import pytest

from trunkline.runtimes.process.sandbox.control import Control
from trunkline.runtimes.process.sandbox.inside.messages import send


async def _nobody(files: Sequence[int]) -> None:
    raise AssertionError(files)


def _connected() -> tuple[Control, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Control.over(ours, _nobody), theirs


def _send_socket(sandbox: socket.socket, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        send(sandbox, {name: True}, listener.fileno())


#: What is sent, and how it is waited for.
SOCKETS = pytest.mark.parametrize(
    ("name", "wait_for"), [("listening", Control.way_out), ("door", Control.door)]
)
WaitFor = Callable[[Control], Awaitable[socket.socket]]


@SOCKETS
async def test_a_socket_that_somebody_has_taken_stays_open(name: str, wait_for: WaitFor) -> None:
    control, sandbox = _connected()
    _send_socket(sandbox, name)
    with await wait_for(control) as sock:
        sandbox.close()
        await control.ended
        assert sock.getsockname()[0] == "127.0.0.1"
    control.close()


@SOCKETS
async def test_a_sandbox_that_ends_before_its_socket_is_taken_cancels_the_wait(
    name: str, wait_for: WaitFor
) -> None:
    control, sandbox = _connected()
    _send_socket(sandbox, name)
    sandbox.close()
    await control.ended
    with pytest.raises(asyncio.CancelledError):
        await wait_for(control)
    control.close()


@SOCKETS
async def test_a_wait_ends_with_the_sandbox_whatever_has_come(name: str, wait_for: WaitFor) -> None:
    """The end may come between the socket and whoever waits for it."""
    for has_come in (False, True):
        control, sandbox = _connected()
        waiting = asyncio.ensure_future(wait_for(control))
        await asyncio.sleep(0)
        if has_come:
            _send_socket(sandbox, name)
            control._read()
        control.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        sandbox.close()
