"""A bounded number of connections to one PostgreSQL server, and threads that use them.

One more than those is kept for what must not be late.

A connection is made when there is work and none is idle, and thrown away when it fails or when
the server closed it meanwhile: so a server that comes back is used again without a word.
"""

import asyncio
import logging
import math
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from trunkline.protocol.errors import UnavailableError
from trunkline.store.errors import StoreNotOpenError
from trunkline.store.postgres.failures import explained
from trunkline.store.postgres.target import Target
from trunkline.store.settings import StoreSettings

_T = TypeVar("_T")
_log = logging.getLogger("trunkline.store")

#: How long a transaction may wait for its client between two statements: it holds the others
#: up, and a client in good health never waits for anything there.
_IDLE_IN_TRANSACTION_MS = 5000
#: The server gives up first. This is for one that doesn't even do that.
_GRACE_S = 2.0
_SET_UP = (
    "select set_config('statement_timeout', %s, false), "
    "set_config('idle_in_transaction_session_timeout', %s, false), "
    "set_config('default_transaction_isolation', 'read committed', false), "
    # Statements leave some of their filters open: a plan for all their uses would suit none.
    "set_config('plan_cache_mode', 'force_custom_plan', false)"
)

Rows = psycopg.Connection[dict[str, Any]]


class Line:
    """One connection, and a way to cut it from another thread."""

    def __init__(self, connection: Rows) -> None:
        self.connection = connection
        # A descriptor of its own: the number of the connection's may be another's by the time.
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))

    def is_usable(self) -> bool:
        """Tell whether it can be used; a connection that idles is readable only at its end."""
        if self.connection.closed:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def cut(self) -> None:
        """End it at once, whoever waits for it. Twice is fine."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it. Twice is fine."""
        with suppress(psycopg.Error):
            self.connection.close()
        self._socket.close()


class _Lane:
    """So many connections, of which nobody else takes one."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.places = asyncio.Semaphore(size)
        self.idle: deque[Line] = deque()


class Connections:
    """All connections of this process to one database."""

    def __init__(self, target: Target, settings: StoreSettings) -> None:
        self._target = target
        self._settings = settings
        self._defaults = {"connect_timeout": str(math.ceil(settings.connect_timeout_s))}
        self._common = _Lane(settings.pool_size)
        self._apart = _Lane(1)
        self._threads = ThreadPoolExecutor(settings.pool_size + 1, thread_name_prefix="postgres")
        self._is_closed = False
        #: What is at work, and until when it may be.
        self._busy: dict[Line, float] = {}
        self._look: asyncio.TimerHandle | None = None
        self._is_proven = False
        self._closing = asyncio.Lock()

    async def open(self, work: Callable[[Rows], None]) -> None:
        """Run the first work; what goes wrong is told in full.

        Raises:
            StoreNotOpenError: Saying why the database can't be used.
        """
        await self.run(work)
        self._is_proven = True

    async def run(self, work: Callable[[Rows], _T]) -> _T:
        """Run work on a connection in a thread. Cancelling a call doesn't stop it half-way.

        Raises:
            UnavailableError: If there is no connection to be had, or the work took too long.
        """
        return await self._run_in(self._common, work)

    async def run_apart(self, work: Callable[[Rows], _T]) -> _T:
        """Run work as :meth:`run`, but without waiting for what others run there.

        Raises:
            UnavailableError: As for :meth:`run`.
        """
        return await self._run_in(self._apart, work)

    async def _run_in(self, lane: _Lane, work: Callable[[Rows], _T]) -> _T:
        await self._take_place(lane.places)
        loop = asyncio.get_running_loop()
        try:
            running = loop.run_in_executor(self._threads, self._run, lane, work)
        except BaseException:
            lane.places.release()
            raise
        running.add_done_callback(lambda running: _give_back(lane.places, running))
        self._look_later()
        return await asyncio.shield(running)

    async def _take_place(self, places: asyncio.Semaphore) -> None:
        self._refuse_if_closed()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await places.acquire()
        except TimeoutError:
            raise UnavailableError("the store is busy; try again") from None
        try:
            self._refuse_if_closed()
        except BaseException:
            places.release()
            raise

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise UnavailableError("the store is closed")

    def _run(self, lane: _Lane, work: Callable[[Rows], _T]) -> _T:
        try:
            line = self._usable_line(lane)
            try:
                return self._watched(line, work)
            finally:
                self._put_back(lane, line)
        except psycopg.Error as error:
            if not self._is_proven:
                raise StoreNotOpenError(
                    f"PostgreSQL ({self._target.shown}): {self._target.cleaned(str(error))}"
                ) from None
            self._tell(error)
            # Without its cause, whose words may name hosts and users.
            raise explained(error) from None

    def _watched(self, line: Line, work: Callable[[Rows], _T]) -> _T:
        self._busy[line] = time.monotonic() + self._settings.timeout_s + _GRACE_S
        try:
            return work(line.connection)
        finally:
            del self._busy[line]

    def _look_for_late(self) -> None:
        # One look a second at all of them costs less than a timer for each call.
        self._look = None
        now = time.monotonic()
        for line, until in list(self._busy.items()):
            if now > until:
                line.cut()
        if self._busy:
            self._look_later()

    def _look_later(self) -> None:
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(1.0, self._look_for_late)

    def _usable_line(self, lane: _Lane) -> Line:
        while lane.idle:
            line = lane.idle.pop()
            if line.is_usable():
                return line
            line.close()
        return self._connect()

    def _put_back(self, lane: _Lane, line: Line) -> None:
        connection = line.connection
        with suppress(psycopg.Error):
            if not connection.closed and connection.info.transaction_status:
                connection.rollback()
        if connection.closed:
            line.close()
        else:
            lane.idle.append(line)

    def _connect(self) -> Line:
        connection = psycopg.connect(
            make_conninfo(**{**self._defaults, **self._target.parameters}),
            autocommit=True,
            row_factory=dict_row,
        )
        line = Line(connection)
        try:
            limits_ms = (str(int(self._settings.timeout_s * 1000)), str(_IDLE_IN_TRANSACTION_MS))
            self._watched(line, lambda connection: connection.execute(_SET_UP, limits_ms))
        except BaseException:
            line.close()
            raise
        return line

    def _tell(self, error: psycopg.Error) -> None:
        words = self._target.cleaned(str(error))
        _log.warning("PostgreSQL (%s): %s", self._target.shown, words)

    async def aclose(self) -> None:
        """Wait for what runs, and close every connection. Twice is fine."""
        async with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            lanes = (self._common, self._apart)
            for lane in lanes:
                for _ in range(lane.size):
                    await lane.places.acquire()
            if self._look is not None:
                self._look.cancel()
            for lane in lanes:
                while lane.idle:
                    lane.idle.pop().close()
            self._threads.shutdown(wait=False)
            for lane in lanes:
                for _ in range(lane.size):
                    lane.places.release()


def _give_back(places: asyncio.Semaphore, running: asyncio.Future[Any]) -> None:
    places.release()
    if not running.cancelled():
        # Taken, so that nobody complains if the one who waited has left.
        running.exception()
