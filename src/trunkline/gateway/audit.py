"""The audit log: written in the background, bounded, and never in anybody's way."""

import asyncio
import datetime as dt
import itertools
import logging
import math
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from trunkline.auth.caller import Caller
from trunkline.protocol.errors import RateLimitedError, TrunklineError
from trunkline.protocol.times import rfc3339
from trunkline.store.records import AuditRecord

_log = logging.getLogger("trunkline.audit")
_PAUSE_S: Final = 0.25
_AT_ONCE: Final = 500
#: Entries that wait for the store. Those beyond are told to the process's log instead.
_MAX_WAITING: Final = 20_000
_FORGET_EVERY_S: Final = 3600.0
#: Whoever asks too often is recorded so often, whatever they send.
_TOO_OFTEN_EVERY_S: Final = 1.0
_MAX_TOLD: Final = 10_000


class _Noted(NamedTuple):
    """An entry before it is written: the record is made with others, out of the way."""

    at: dt.datetime
    number: int
    action: str
    status: int
    place: tuple[str | None, str | None, str | None]
    caller: Caller | None
    address: str
    request_id: str


class KeepsAudit(Protocol):
    """What keeps the entries."""

    async def add_audit(self, records: Sequence[AuditRecord]) -> None:
        """Keep some more."""

    async def forget_audit(self, before: dt.datetime) -> None:
        """Forget those that are older."""


class AuditTrail:
    """Takes what happened, and has the store keep it."""

    def __init__(self, store: KeepsAudit | None, *, kept_for: dt.timedelta) -> None:
        """Make one.

        Args:
            store: What keeps the entries; None to keep none.
            kept_for: For how long.
        """
        self._store = store
        self._kept_for = kept_for
        self._waiting: deque[_Noted] = deque()
        self._has_some = asyncio.Event()
        self._writing = asyncio.Lock()
        self._forget_at = 0.0
        # Others write at the same microsecond, and so does this.
        self._name = secrets.token_hex(4)
        self._numbers = itertools.count()
        #: When it was last recorded of whom that they ask too often.
        self._told_at: OrderedDict[str, float] = OrderedDict()
        self._is_late = False

    def add(
        self,
        action: str,
        status: int,
        *,
        place: tuple[str | None, str | None, str | None],
        caller: Caller | None,
        address: str,
        request_id: str,
    ) -> None:
        """Record something.

        Args:
            action: What was asked for.
            status: The answer's.
            place: Project, agent and session, as far as it is about one.
            caller: Who asked, if that could be told.
            address: From where.
            request_id: The request's id.
        """
        if self._store is None:
            return
        if status == RateLimitedError.status and self._was_told(
            caller.identity.owner if caller is not None else address
        ):
            return
        now = dt.datetime.now(dt.UTC)
        noted = _Noted(now, next(self._numbers), action, status, place, caller, address, request_id)
        if len(self._waiting) >= _MAX_WAITING:
            _log.error(
                "the store is too slow for the audit log; this isn't in it: %s",
                self._record_of(noted),
            )
            return
        self._waiting.append(noted)
        self._has_some.set()

    def _record_of(self, noted: _Noted) -> AuditRecord:
        project, agent, session_id = noted.place
        caller = noted.caller
        return AuditRecord(
            entry_id=f"{rfc3339(noted.at)}-{self._name}-{noted.number}",
            at=noted.at,
            project=project,
            agent=agent,
            session_id=session_id,
            action=noted.action,
            status=noted.status,
            identity=caller.identity.owner if caller is not None else None,
            acting_for=caller.acting_for if caller is not None else None,
            credential=caller.credential if caller is not None else None,
            address=noted.address,
            request_id=noted.request_id,
        )

    def _was_told(self, who: str) -> bool:
        # Refusing somebody is cheap, and writing it down isn't: a flood must not be one of entries.
        now = time.monotonic()
        if now - self._told_at.get(who, -math.inf) < _TOO_OFTEN_EVERY_S:
            return True
        self._told_at[who] = now
        self._told_at.move_to_end(who)
        if len(self._told_at) > _MAX_TOLD:
            self._told_at.popitem(last=False)
        return False

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._has_some.wait()
            await asyncio.sleep(_PAUSE_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what waits. What can't be written stays, and is tried again."""
        if self._store is None:
            return
        # What waits is looked at, written and taken away by one at a time: a reader asks as well.
        async with self._writing:
            await self._write(self._store)

    async def _write(self, store: KeepsAudit) -> None:
        self._has_some.clear()
        while self._waiting:
            some = [self._record_of(noted) for noted in itertools.islice(self._waiting, _AT_ONCE)]
            try:
                await store.add_audit(some)
            except TrunklineError as exc:
                # Once for each time that it can't be: it is tried several times a second.
                if not self._is_late:
                    _log.warning("the audit log is written later: %s", exc)
                self._is_late = True
                self._has_some.set()
                return
            self._is_late = False
            for _ in some:
                self._waiting.popleft()
        loop = asyncio.get_running_loop()
        if loop.time() >= self._forget_at:
            self._forget_at = loop.time() + _FORGET_EVERY_S
            await store.forget_audit(dt.datetime.now(dt.UTC) - self._kept_for)
