"""The platform's end of the socket to one sandbox."""

import asyncio
import itertools
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from trunkline.runtimes.process.sandbox.inside.messages import receive, send
from trunkline.runtimes.process.sandbox.inside.plan import Plan, file_of


class SandboxFailedError(Exception):
    """The sandbox couldn't be made, or the agent's program not be run in it."""


class _Coming:
    """A socket that the sandbox sends, and that somebody waits for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._socket: asyncio.Future[socket.socket] = loop.create_future()
        self._is_taken = self._is_given_up = False

    async def taken(self) -> socket.socket:
        """Wait for it; it is the caller's then. Giving it up before that cancels the wait."""
        sock = await asyncio.shield(self._socket)
        if self._is_given_up:
            # It had come, and the sandbox ended before anybody could take it.
            raise asyncio.CancelledError
        self._is_taken = True
        return sock

    def has_come(self, sock: socket.socket) -> None:
        """Give it to whoever waits."""
        if self._socket.done():
            sock.close()
            return
        sock.setblocking(False)
        self._socket.set_result(sock)

    def give_up(self) -> None:
        """Cancel the wait; close it if it has come, and nobody took it. Twice is fine."""
        self._is_given_up = not self._is_taken
        # Cancelling does nothing to one that has come.
        self._socket.cancel()
        if not self._socket.cancelled() and not self._is_taken:
            self._socket.result().close()


def reason_of(error: OSError | SandboxFailedError) -> str:
    """Say in a few words what stood in the way."""
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


def _listening_at(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.setblocking(False)
        listener.bind(str(path))
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener


class Control:
    """Waits for one launcher, gives it its plan, and asks it for connections.

    Raises:
        OSError: If the socket can't be made.
    """

    def __init__(self, path: Path, *, listens: bool = True) -> None:
        self.path = path
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = None
        self._connection: socket.socket | None = None
        self._way_out = _Coming(self._loop)
        self._door = _Coming(self._loop)
        self._born: asyncio.Future[None] = self._loop.create_future()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._asked: dict[int, asyncio.Future[socket.socket | None]] = {}
        self._numbers = itertools.count()
        self._deliver: Callable[[Sequence[int]], Awaitable[None]] | None = None
        self.failure: str | None = None
        self.ended: asyncio.Future[int] = self._loop.create_future()
        """The code of an agent that was forked, once nothing of its sandbox is left."""
        self.agent_pidfd = -1
        self.nest_pidfd = -1
        self.on_nest: Callable[[], None] = lambda: None
        """Called when the first process of a forked agent's sandbox is known."""
        if listens:
            self._listener = _listening_at(path)

    async def send_plan(self, plan: Plan, descriptors: Sequence[int]) -> None:
        """Say what is to be done, to the launcher when it has connected, or to the nursery."""
        if self._deliver is not None:
            await self._deliver((plan.file(), *descriptors))
            return
        assert self._listener is not None
        self._connection, _ = await self._loop.sock_accept(self._listener)
        self._listener.close()
        described = plan.file()
        try:
            send(self._connection, {}, described, *descriptors)
        finally:
            os.close(described)
        self.go_on()

    def be(
        self, binds: Sequence[tuple[str, str, str]], described: bytes, outputs: Sequence[int]
    ) -> None:
        """Tell the nursery whose the agent is that it has forked, or will have.

        Args:
            binds: What it sees besides its plan's.
            described: What it is to run, for the agent.
            outputs: Its output and its complaints.
        """
        if self._connection is None:
            return
        file = file_of(described)
        try:
            send(self._connection, {"be": binds}, file, *outputs)
        finally:
            os.close(file)

    async def wait_born(self) -> None:
        """Wait until an agent is forked that waits to be told whose it is.

        Raises:
            SandboxFailedError: If it doesn't come to that.
        """
        await asyncio.shield(self._born)

    async def way_out(self) -> socket.socket:
        """Return the socket that listens in the session's network for what wants out.

        It is the caller's. A sandbox that ends first cancels the wait.
        """
        return await self._way_out.taken()

    async def door(self) -> socket.socket:
        """Return the socket of the session's door to the platform, in the same way."""
        return await self._door.taken()

    async def wait_started(self) -> None:
        """Wait until the agent's program runs.

        Raises:
            SandboxFailedError: If it doesn't come to that.
        """
        await asyncio.shield(self._started)

    async def connect(self, port: int) -> socket.socket | None:
        """Return a connection to a port inside, or None if nobody listens there."""
        if self._connection is None:
            return None
        number = next(self._numbers)
        answer: asyncio.Future[socket.socket | None] = self._loop.create_future()
        self._asked[number] = answer
        try:
            send(self._connection, {"connect": port, "number": number})
            return await answer
        except BlockingIOError:
            return None
        finally:
            self._asked.pop(number, None)

    @classmethod
    def over(
        cls, connection: socket.socket, deliver: Callable[[Sequence[int]], Awaitable[None]]
    ) -> "Control":
        """Return the end of a sandbox that a nursery will make.

        Args:
            connection: The socket to it.
            deliver: Gives the nursery a file with the plan, which it closes, and descriptors.
        """
        control = cls(Path(), listens=False)
        connection.setblocking(False)
        control._connection = connection
        control._deliver = deliver
        control.go_on()
        return control

    @classmethod
    def take_over(cls, path: Path, connection: socket.socket) -> "Control":
        """Return the end of a sandbox that another process of the platform made."""
        control = cls(path, listens=False)
        connection.setblocking(False)
        control._connection = connection
        control._started.set_result(None)
        control.go_on()
        return control

    @property
    def file(self) -> int | None:
        """The open socket, while there is one."""
        return None if self._connection is None else self._connection.fileno()

    def hold(self) -> None:
        """Read nothing for now."""
        if self._connection is not None:
            self._loop.remove_reader(self._connection)

    def go_on(self) -> None:
        """Read again."""
        if self._connection is not None:
            self._loop.add_reader(self._connection, self._read)

    def close(self) -> None:
        """Give it up. Twice is fine."""
        if self._listener is not None:
            self._listener.close()
        if self._connection is not None:
            self._loop.remove_reader(self._connection)
            self._connection.close()
            self._connection = None
        self._give_up("the sandbox is gone")
        for descriptor in (self.agent_pidfd, self.nest_pidfd):
            if descriptor >= 0:
                os.close(descriptor)
        self.agent_pidfd = self.nest_pidfd = -1

    def _read(self) -> None:
        assert self._connection is not None
        try:
            message, descriptor = receive(self._connection)
        except BlockingIOError:
            return
        if message is None:
            self._loop.remove_reader(self._connection)
            self._connection.close()
            self._connection = None
            self._give_up("the sandbox ended before the agent was started")
            return
        if descriptor is not None and "nest" in message:
            self.nest_pidfd = descriptor
            self.on_nest()
        elif descriptor is not None and "born" in message:
            self.agent_pidfd = descriptor
            if not self._born.done():
                self._born.set_result(None)
        else:
            self._take(message, None if descriptor is None else socket.socket(fileno=descriptor))

    def _take(self, message: dict[str, Any], sock: socket.socket | None) -> None:
        if "listening" in message and sock is not None:
            self._way_out.has_come(sock)
        elif "door" in message and sock is not None:
            self._door.has_come(sock)
        elif "failed" in message:
            self.failure = str(message["failed"])
            self._fail(self.failure)
        elif "started" in message and not self._started.done():
            self._started.set_result(None)
        elif "ended" in message and not self.ended.done():
            self.ended.set_result(int(message["ended"]))
        elif (answer := self._asked.get(message.get("connected", -1))) and not answer.done():
            if sock is not None:
                sock.setblocking(False)
            answer.set_result(sock)
        elif (answer := self._asked.get(message.get("refused", -1))) and not answer.done():
            answer.set_result(None)
        elif sock is not None:
            # Nobody waits for it any more.
            sock.close()

    def _fail(self, why: str) -> None:
        for waited in (self._born, self._started):
            if not waited.done():
                waited.set_exception(SandboxFailedError(why))
                waited.exception()

    def _give_up(self, why: str) -> None:
        self._fail(why)
        self._way_out.give_up()
        self._door.give_up()
        if not self.ended.done():
            self.ended.set_result(-signal.SIGKILL)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result(None)
