"""The old process's part of being replaced."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from trunkline.aio.passing import Passing, PassingError, close_all
from trunkline.gateway.moving import Departure, Moved
from trunkline.gateway.services import GatewayServices
from trunkline.platform.control_socket import ControlSocket
from trunkline.platform.handover import (
    ANSWER_TIMEOUT_S,
    Line,
    NextProcess,
    PlatformEndsError,
    ReloadFailedError,
)
from trunkline.platform.server import Server
from trunkline.platform.workers.fleet import Fleet
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import NodeId
from trunkline.runtimes.interface import Passed
from trunkline.runtimes.process.kept import KeeperLine
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.sessions.arriving import key_from
from trunkline.sessions.calls import Calls
from trunkline.sessions.directory import SessionDirectory
from trunkline.sessions.upkeep import Upkeep

_log = logging.getLogger("trunkline.platform")
_START_TIMEOUT_S: Final = 60.0
#: So many processes are started if each ends while it takes over.
_TRIES: Final = 3
_STOPPING: Final = "it was told to stop"
_A = TypeVar("_A")
_B = TypeVar("_B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What the next process gets."""

    node: NodeId
    store: str
    """Which store is used, for the next process to see that it is the same."""
    listeners: Sequence[socket.socket]
    locks: Sequence[int]
    """Open files whose locks stay while anybody has them open."""
    reload_wait_s: float
    drain_timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What has to do with being replaced."""

    keeper: KeeperLine | None
    runtime: ProcessRuntime
    sessions: SessionDirectory
    upkeep: Upkeep
    calls: Calls
    gateway: GatewayServices
    server: Server
    close_doors: Callable[[], None]
    """Ends streams that would go on for ever."""
    before_has_ended: asyncio.Event
    """Set when nothing is left of the process that this one has replaced, if it has."""
    fleet: Fleet | None = None
    """The workers, if there are any."""


class Replacement:
    """Has a newer process take this one's place. One attempt at a time."""

    def __init__(self, parts: Parts, inheritance: Inheritance) -> None:
        self._parts = parts
        self._inheritance = inheritance
        self._under_way: asyncio.Task[dict[str, Any]] | None = None
        self._listeners: Sequence[socket.socket] = ()
        #: The sessions, as the first process got them that was to take them over.
        self._kept: Sequence[Passed] | None = None
        self._has_followed = False
        self._deadline = 0.0
        self._control: ControlSocket | None = None

    async def listen(self, state_dir: Path) -> None:
        """Let this user ask for it, at a Unix socket in the state directory."""
        if self._parts.keeper is not None:
            self._control = ControlSocket(state_dir, self.begin)
            await self._control.open()

    def close(self) -> None:
        """Listen no more. Twice is fine."""
        if self._control is not None:
            self._control.close()

    def begin(self) -> "asyncio.Task[dict[str, Any]]":
        """Begin, unless it has begun; return what tells the report.

        The task raises :class:`ReloadFailedError` if it can't be done; then this process goes on.
        """
        if self._under_way is None or self._under_way.done():
            self._under_way = self._parts.gateway.tasks.spawn(
                self._run(), name="reload", is_awaited=True
            )
            self._under_way.add_done_callback(_tell)
        return self._under_way

    async def _run(self) -> dict[str, Any]:
        parts = self._parts
        if parts.server.is_draining:
            raise PlatformEndsError(_STOPPING)
        if parts.keeper is None:
            raise ReloadFailedError("this platform has no keeper: reloading takes Linux")
        # The server closes its own when it accepts nothing more, and a second try needs them, too.
        self._listeners = [sock.dup() for sock in self._inheritance.listeners]
        try:
            for _ in range(_TRIES):
                pid, line = self._start(parts.keeper)
                await self._give_sessions(pid, line)
                try:
                    # The line stays: its end tells that the leases which are held here are held
                    # no more.
                    return await self._follow(pid, line)
                except PassingError as exc:
                    if parts.server.is_draining:
                        raise PlatformEndsError(_STOPPING) from exc
                    _log.error("reload: the new process ended while it took over: %s", exc)
                    await _end(pid, line)
                    line.close()
            parts.server.stop()
            raise PlatformEndsError("each new process ended while it took over")
        finally:
            for sock in self._listeners:
                sock.close()
            for passed in self._kept or ():
                close_all(passed.files)
            self._kept = None

    def _start(self, keeper: KeeperLine) -> tuple[int, Line]:
        ours, theirs = socket.socketpair()
        with theirs:
            pid = keeper.ask({"do": "replace"}, [theirs.fileno()])["pid"]
        return pid, Line(Passing(ours, timeout_s=ANSWER_TIMEOUT_S))

    async def _give_sessions(self, pid: int, line: Line) -> None:
        is_first = not self._has_followed
        try:
            await self._prepare(line)
            await self._pass_sessions(line)
        except BaseException as exc:
            await _end(pid, line)
            line.close()
            is_stopping = self._parts.server.is_draining
            if is_first:
                self._parts.sessions.leaving.take_back()
            else:
                # Nobody has the sessions: what is still open here ends in good order.
                self._parts.server.stop()
            if isinstance(exc, asyncio.CancelledError):
                raise
            if is_stopping:
                # The keeper tells both, and a new one ends at once.
                raise PlatformEndsError(_STOPPING) from exc
            if is_first and isinstance(exc, TrunklineError):
                raise
            is_ours = isinstance(exc, TrunklineError)
            reason = str(exc) if is_ours else f"the new process ended too early: {exc}"
            raise (ReloadFailedError if is_first else PlatformEndsError)(reason) from exc

    async def _prepare(self, line: Line) -> None:
        given = self._inheritance
        line.send(
            {
                "node": given.node,
                "store": given.store,
                "run_dir": str(self._parts.runtime.run_dir),
                "listeners": len(self._listeners),
            },
            [*(sock.fileno() for sock in self._listeners), *given.locks],
        )
        try:
            answer, _ = await line.receive(_START_TIMEOUT_S)
        except TimeoutError:
            raise ReloadFailedError(
                f"the new process wasn't ready after {_START_TIMEOUT_S:g} s"
            ) from None
        except PassingError:
            raise ReloadFailedError(
                "the new process ended before it was ready; what it said is in the platform's log"
            ) from None
        if "failed" in answer:
            raise ReloadFailedError(f"the new process couldn't start: {answer['failed']}")

    async def _pass_sessions(self, line: Line) -> None:
        sessions = self._parts.sessions
        if self._kept is None:
            await sessions.quiet(self._inheritance.reload_wait_s)
            passed = sessions.leaving.pass_on()
            # What they are made of is let go of here once the new process has them.
            self._kept = [
                Passed(each.data, tuple(os.dup(file) for file in each.files)) for each in passed
            ]
        else:
            passed = self._left_over(self._kept)
        for each in passed:
            line.send({"do": "session", "session": each.data}, each.files)
        line.send(
            {
                "do": "serve",
                "calls": self._parts.calls.described(),
                "setbacks": sessions.setbacks.described(),
            }
        )
        await line.receive(ANSWER_TIMEOUT_S)

    def _left_over(self, kept: Sequence[Passed]) -> list[Passed]:
        """Return what there still is of the sessions that a process had which has ended."""
        assert self._parts.keeper is not None
        pids = self._parts.keeper.ask({"do": "list"})["pids"]
        leases = self._parts.sessions.leaving.look_for_another()
        return [
            # Of what it had begun to print, that process had the beginning.
            Passed(
                {**each.data, "leases": leases[key_from(each.data["key"])], "unfinished": {}},
                each.files,
            )
            for each in kept
            if each.data["instance"].get("is_forked") or each.data["instance"]["pid"] in pids
        ]

    async def _follow(self, pid: int, line: Line) -> dict[str, Any]:
        parts, is_first = self._parts, not self._has_followed
        assert parts.keeper is not None
        try:
            parts.keeper.ask({"do": "step down", "pid": pid})
        except OSError as exc:
            raise PassingError("it is gone") from exc
        self._has_followed = True
        if is_first:
            self._deadline = asyncio.get_running_loop().time() + self._inheritance.drain_timeout_s
            parts.server.stop_accepting()
            parts.upkeep.let_go()
            parts.runtime.let_go()
        following = NextProcess(line)
        parts.sessions.leaving.let_go(following)
        if is_first:
            parts.close_doors()
            if self._control is not None:
                self._control.let_go()
            # Not before nothing of it goes on here may the other one go on with it.
            await parts.upkeep.give_up()
        line.send({"do": "take over"})
        departure = Departure(parts.gateway, parts.server.connections)
        try:
            moved, of_workers = await _both(
                departure.move(following, self._inheritance.drain_timeout_s),
                self._move_workers(line),
            )
            line.send({"do": "goodbye"})
        except PassingError:
            raise
        except BaseException:
            parts.server.stop_for_successor(self._deadline)
            raise
        with contextlib.suppress(OSError):
            # A keeper that is older doesn't know what that is for.
            parts.keeper.ask({"do": "leave"})
        parts.gateway.tasks.spawn(self._finish(), name="reload:finish")
        return _report([moved, *of_workers], pid)

    async def _finish(self) -> None:
        """Finish what is left here, in the time it has, and end."""
        # What the one before still answers is known to the next one through this one only.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._inheritance.drain_timeout_s):
                await self._parts.before_has_ended.wait()
        self._parts.server.stop_for_successor(self._deadline)

    async def _move_workers(self, line: Line) -> list[Moved]:
        def tell(number: int, file: int) -> None:
            line.send({"do": "worker", "number": number}, [file])

        fleet = self._parts.fleet
        return [] if fleet is None else await fleet.depart(tell, self._deadline)


async def _both(one: Coroutine[Any, Any, _A], other: Coroutine[Any, Any, _B]) -> tuple[_A, _B]:
    """Run both to their ends, whatever becomes of one of them."""
    results = await asyncio.gather(one, other, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast("tuple[_A, _B]", tuple(results))


async def _end(pid: int, line: Line) -> None:
    # It may have sessions already: it must be gone before they are this process's again.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(PassingError, TimeoutError):
        while True:
            await line.receive(ANSWER_TIMEOUT_S)


def _report(moved: Sequence[Moved], pid: int) -> dict[str, Any]:
    pauses_s = [pause for each in moved for pause in each.pauses_s]
    return {
        "pid": pid,
        "connections_moved": sum(each.relays for each in moved),
        "http_connections_moved": sum(each.connections for each in moved),
        "encrypted_sent_away": sum(each.encrypted for each in moved),
        "left_behind": sum(each.left for each in moved),
        "longest_pause_ms": round(max(pauses_s, default=0.0) * 1000, 1),
    }


def _tell(task: "asyncio.Task[dict[str, Any]]") -> None:
    if task.cancelled():
        _log.warning("reload: given up, because the platform stops")
    elif (error := task.exception()) is None:
        words = " ".join(f"{name}={value}" for name, value in task.result().items())
        _log.info("reload: another process serves from here on: %s", words)
    elif isinstance(error, PlatformEndsError):
        _log.error("reload failed, and the platform ends: %s", error)
    elif isinstance(error, TrunklineError):
        _log.error("reload failed, and this process goes on: %s", error)
    else:
        _log.error("reload failed", exc_info=error)
