"""The door from a sandbox to the platform: a port in the session's own network.

Who answers behind it, and what little of the platform it shows, is the platform's affair. Here
is only where it stands, when it opens, and what becomes of it when the platform changes hands.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from trunkline.protocol.environment import DEFAULT_PORT
from trunkline.protocol.ids import SessionKey
from trunkline.runtimes.process.sandbox.egress import PROXY_PORT
from trunkline.runtimes.process.sandbox.told import Told

#: Where the door is if the platform's own port is one that agents need themselves.
_OTHER_PORT = 3129


class Doorkeeper(Protocol):
    """Answers what one session's agent asks."""

    def new_connection(self) -> asyncio.Protocol:
        """Return what answers on one more connection."""

    def finish(self) -> None:
        """Answer what has been asked, and close."""

    def close(self) -> None:
        """Close at once. Twice is fine."""


class Doors(Protocol):
    """The platform, as sandboxes know it."""

    @property
    def port(self) -> int:
        """Where the platform listens, on its own network."""

    async def opened(self) -> None:
        """Return when it can answer."""

    def keeper_for(self, key: SessionKey, tell: Callable[[str], None]) -> Doorkeeper:
        """Return who answers a session's agent, and tells the session's log what it refused."""


def door_port(doors: Doors | None) -> int:
    """Return where the door is in a session's network; 0 if there is none.

    It is the platform's own number, so that its address holds on both sides.
    """
    if doors is None:
        return 0
    return _OTHER_PORT if doors.port in (PROXY_PORT, DEFAULT_PORT) else doors.port


class Door:
    """One session's door."""

    def __init__(self, doors: Doors, key: SessionKey, tell: Callable[[str], None]) -> None:
        self._doors = doors
        self._keeper = doors.keeper_for(key, Told(tell).say)
        self._listener: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._is_closed = False

    async def serve(self, sock: socket.socket) -> None:
        """Take connections on a socket that listens in the session's network.

        They wait until the platform can answer.
        """
        # The server's own goes with it; this one may have to be passed on.
        self._listener = sock.dup()
        try:
            await self._doors.opened()
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._keeper.new_connection, sock=sock)
        except BaseException:
            sock.close()
            raise
        if self._is_closed:
            self._stop_listening()

    @property
    def file(self) -> int | None:
        """The listening socket, while there is one."""
        return None if self._listener is None else self._listener.fileno()

    def let_go(self) -> None:
        """Leave it to another process; what has been asked here is answered here."""
        self._stop_listening()
        self._keeper.finish()

    def close(self) -> None:
        """Stop, and end what is open. Twice is fine."""
        self._stop_listening()
        self._keeper.close()

    def _stop_listening(self) -> None:
        self._is_closed = True
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._server is not None:
            self._server.close()
            self._server = None
