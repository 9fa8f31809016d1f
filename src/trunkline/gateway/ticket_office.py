"""Tickets: each lets one connection in, once, for whoever can't send a header.

A ticket is for one session of one agent, is good for a minute at most, and ends when it is used,
also when it is used wrongly. The store has its digest only.
"""

import datetime as dt
import hashlib
import secrets
from typing import Final

from trunkline.auth.caller import Caller
from trunkline.gateway.carriage import TICKET_PREFIX
from trunkline.protocol.errors import AuthenticationError
from trunkline.protocol.ids import SessionKey
from trunkline.store.interface import TicketStore
from trunkline.store.records import TicketRecord

MAX_LIFETIME_S: Final = 60


class TicketOffice:
    """Makes tickets, and takes them."""

    def __init__(self, store: TicketStore) -> None:
        self._store = store

    async def issue(
        self, caller: Caller, key: SessionKey, *, origin: str | None, lifetime_s: float
    ) -> tuple[str, dt.datetime]:
        """Return a new ticket, and when it ends: not later than what its caller came in with."""
        now = _now()
        expires_at = now + dt.timedelta(seconds=min(lifetime_s, MAX_LIFETIME_S))
        # Compared as a number: a token may end in a year that no date has.
        if caller.expires_at < expires_at.timestamp():
            expires_at = dt.datetime.fromtimestamp(caller.expires_at, dt.UTC)
        ticket = f"{TICKET_PREFIX}{secrets.token_urlsafe(32)}"
        record = TicketRecord(
            digest=_digest(ticket), key=key, origin=origin, caller=caller.to_json(),
            expires_at=expires_at,
        )  # fmt: skip
        await self._store.add_ticket(record, now)
        return ticket, expires_at

    async def redeem(self, ticket: str, origin: str | None) -> tuple[Caller, SessionKey]:
        """Return who comes in with a ticket, and to which session. Nobody does so again.

        Raises:
            AuthenticationError: If it isn't good: made up, used, over, or of another origin.
        """
        record = await self._store.take_ticket(_digest(ticket))
        if record is None or record.expires_at <= _now():
            raise AuthenticationError("the ticket isn't good: it was used, or its time is over")
        if record.origin is not None and record.origin != origin:
            raise AuthenticationError("the ticket is for a page of another origin")
        return Caller.from_json(record.caller), record.key


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode("utf-8", "surrogateescape")).hexdigest()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
