"""The old process's part of being replaced."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trunkline.aio.passing import Passing, PassingError
from trunkline.gateway.moving import Departure, Moved
from trunkline.gateway.services import GatewayServices
from trunkline.platform.control_socket import ControlSocket
from trunkline.platform.handover import ANSWER_TIMEOUT_S, Line, NextProcess, ReloadFailedError
from trunkline.platform.server import Server
from trunkline.platform.workers.fleet import Fleet
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import NodeId
from trunkline.runtimes.process.kept import KeeperLine
from trunkline.runtimes.process.runtime import ProcessRuntime
from trunkline.sessions.calls import Calls
from trunkline.sessions.directory import SessionDirectory
from trunkline.sessions.upkeep import Upkeep

_log = logging.getLogger("trunkline.platform")
_START_TIMEOUT_S: Final = 60.0


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
    fleet: Fleet | None = None
    """The workers, if there are any."""


class Replacement:
    """Has a newer process take this one's place. One attempt at a time."""

    def __init__(self, parts: Parts, inheritance: Inheritance) -> None:
        self._parts = parts
        self._inheritance = inheritance
        self._under_way: asyncio.Task[dict[str, Any]] | None = None
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
            raise ReloadFailedError("the platform is stopping")
        if parts.keeper is None:
            raise ReloadFailedError("this platform has no keeper: reloading takes Linux")
        ours, theirs = socket.socketpair()
        line = Line(Passing(ours, timeout_s=ANSWER_TIMEOUT_S))
        with theirs:
            pid = parts.keeper.ask({"do": "replace"}, [theirs.fileno()])["pid"]
        try:
            await self._prepare(line)
            await self._pass_sessions(line)
        except BaseException as exc:
            await _end(pid, line)
            line.close()
            parts.sessions.leaving.take_back()
            if isinstance(exc, TrunklineError | asyncio.CancelledError):
                raise
            raise ReloadFailedError(f"the new process ended too early: {exc}") from exc
        # The line stays: its end tells that the leases which are held here are held no more.
        return await self._follow(pid, line)

    async def _prepare(self, line: Line) -> None:
        given = self._inheritance
        line.send(
            {
                "node": given.node,
                "store": given.store,
                "run_dir": str(self._parts.runtime.run_dir),
                "listeners": len(given.listeners),
            },
            [*(sock.fileno() for sock in given.listeners), *given.locks],
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
        await sessions.quiet(self._inheritance.reload_wait_s)
        for passed in sessions.leaving.pass_on():
            line.send({"do": "session", "session": passed.data}, passed.files)
        line.send({"do": "serve", "calls": self._parts.calls.described()})
        await line.receive(ANSWER_TIMEOUT_S)

    async def _follow(self, pid: int, line: Line) -> dict[str, Any]:
        parts = self._parts
        assert parts.keeper is not None
        parts.keeper.ask({"do": "step down", "pid": pid})
        parts.server.stop_accepting()
        parts.upkeep.let_go()
        parts.runtime.let_go()
        following = NextProcess(line)
        parts.sessions.leaving.let_go(following)
        parts.close_doors()
        if self._control is not None:
            self._control.let_go()
        # Not before nothing of it goes on here may the other one go on with it.
        await parts.upkeep.give_up()
        line.send({"do": "take over"})
        departure = Departure(parts.gateway, parts.server.connections)
        try:
            moved, of_workers = await asyncio.gather(
                departure.move(following, self._inheritance.drain_timeout_s),
                self._move_workers(line),
            )
        finally:
            # Whatever is left finishes here, in the time it has.
            parts.server.stop_for_successor()
        line.send({"do": "goodbye"})
        return _report([moved, *of_workers], pid)

    async def _move_workers(self, line: Line) -> list[Moved]:
        def tell(number: int, file: int) -> None:
            line.send({"do": "worker", "number": number}, [file])

        fleet = self._parts.fleet
        return [] if fleet is None else await fleet.depart(tell)


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
    elif isinstance(error, TrunklineError):
        _log.error("reload failed, and this process goes on: %s", error)
    else:
        _log.error("reload failed", exc_info=error)
