"""The new process's part of replacing one."""

import base64
import contextlib
import functools
import logging
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trunkline.aio.passing import Passing, PassingError, close_all
from trunkline.aio.tasks import TaskOwner
from trunkline.gateway.moving import Entrance
from trunkline.platform.handover import ANSWER_TIMEOUT_S, Line
from trunkline.platform.workers.fleet import Fleet
from trunkline.protocol.ids import NodeId
from trunkline.runtimes.interface import Passed
from trunkline.sessions.arriving import key_from
from trunkline.sessions.calls import Calls
from trunkline.sessions.directory import SessionDirectory
from trunkline.sessions.upkeep import Upkeep

_log = logging.getLogger("trunkline.platform")


class Predecessor:
    """The process that this one replaces."""

    def __init__(self, sock: socket.socket) -> None:
        """Take what it begins with.

        Raises:
            PassingError: If it is gone.
        """
        passing = Passing(sock, timeout_s=ANSWER_TIMEOUT_S)
        self._line = Line(passing)
        message, files = passing.receive()
        self.store: str = message["store"]
        self.node = NodeId(message["node"])
        self.run_dir = Path(message["run_dir"])
        # Platforms that had no workers don't say.
        number = message.get("listeners", 1)
        self.listeners = [socket.socket(fileno=file) for file in files[:number]]
        #: Their locks are this process's, too.
        self.locks: Sequence[int] = files[number:]
        self.is_replaced = False
        """Whether this process serves in its place."""
        self._calls: dict[str, Any] = {}

    def fail(self, reason: str) -> None:
        """Tell why this process can't take its place."""
        try:
            self._line.send({"failed": reason})
        except PassingError:
            _log.warning("the process that was to be replaced is gone")

    async def take_sessions(self, sessions: SessionDirectory, calls: Calls) -> None:
        """Say that all is ready, and take its sessions over.

        Raises:
            PassingError: If it has changed its mind, or is gone.
        """
        self._line.send({"ready": True})
        while True:
            message, files = await self._line.receive()
            if message["do"] == "session":
                sessions.arriving.take_over(Passed(message["session"], tuple(files)))
            else:
                self._calls = message["calls"]
                calls.take_over(self._calls)
                # Older processes don't say.
                sessions.setbacks.take_over(message.get("setbacks", {}))
                return

    def say_serving(self) -> None:
        """Say that this process accepts connections."""
        self._line.send({"serving": True})
        self.is_replaced = True

    async def follow(
        self,
        *,
        entrance: Entrance,
        sessions: SessionDirectory,
        calls: Calls,
        upkeep: Upkeep,
        fleet: Fleet | None,
        tasks: TaskOwner,
    ) -> None:
        """Do what it asks for until it ends."""
        try:
            while True:
                message, files = await self._line.receive()
                match message["do"]:
                    case "relays":
                        relays = message["relays"]
                        await entrance.take_relays(
                            relays,
                            files,
                            functools.partial(self._line.send, {"taken": len(relays)}),
                        )
                    case "connection":
                        await entrance.take_connection(base64.b64decode(message["data"]), files[0])
                    case "worker" if fleet is not None:
                        # One of its workers wants to pass its connections to one of ours.
                        fleet.arrive(message["number"], files[0])
                        close_all(files)
                    case "lease returned" | "event" | "warm up":
                        await _hear_of_session(sessions, message)
                    case "goodbye":
                        _log.info("reload: everything that moves has moved")
                    case "take over":
                        for follower in upkeep.followers:
                            tasks.spawn(follower.take_over(), name="reload:take-over")
                    case _:
                        _log.error("reload: %r isn't understood", message["do"])
        except PassingError:
            # It has ended, in good order or not.
            pass
        finally:
            # If anything went wrong here, it is better off with another process in its place.
            self._line.close()
        sessions.arriving.predecessor_ended()
        for call_id in self._calls:
            calls.close(call_id)
        _log.info("reload: the process that served before has ended")


async def _hear_of_session(sessions: SessionDirectory, message: Mapping[str, Any]) -> None:
    match message["do"]:
        case "lease returned":
            # A worker that dies while its connections move may have passed it on.
            with contextlib.suppress(KeyError):
                sessions.arriving.lease_returned(key_from(message["key"]))
        case "event":
            log = sessions.logs.of(message["home"])
            log.event(message["reason"], message["message"])
        case _:
            await sessions.warm_up(key_from(message["key"]))
