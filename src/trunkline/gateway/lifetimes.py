"""How long an open connection outlives what it was let in with. One look at all, now and then.

Revocations are fetched from the store every ``credential_check_s``, so what one process of the
platform is told reaches the connections of all of them. When tokens count while a connection is
open (``on_expiry``), those that are over are looked for at the same time: a frame costs nothing.
"""

import asyncio
import datetime as dt
import logging
import time

from trunkline.auth.identity import Identity
from trunkline.gateway.relayed import Relayed
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.summary import ClosedBy
from trunkline.protocol.close import CloseCode
from trunkline.protocol.errors import TrunklineError
from trunkline.store.interface import CredentialStore

_log = logging.getLogger("trunkline.gateway")
#: Longer than any token lives that is worth having.
_KEPT = dt.timedelta(days=400)
_FORGET_EVERY_S = 600.0
#: Connections that are looked at before others get a turn.
_AT_ONCE = 500


class Lifetimes:
    """Closes connections whose callers may not be here any more."""

    def __init__(self, services: GatewayServices, store: CredentialStore) -> None:
        self._services = services
        self._store = store
        self._forget_at = 0.0

    async def run(self) -> None:
        """Look for ever; what fails is logged and tried again."""
        while True:
            try:
                await self.look()
            except TrunklineError as exc:
                _log.warning("credentials are checked again: %s", exc)
            except Exception:  # noqa: BLE001 - whatever it is, revocations must go on to count
                _log.exception("checking credentials failed; it is tried again")
            await asyncio.sleep(self._services.settings.credential_check_s)

    async def look(self) -> None:
        """Look once."""
        revocations = self._services.admission.revocations
        records = await self._store.list_revocations()
        has_changed = revocations.replace(
            (Identity(record.issuer, record.subject), record.revoked_at.timestamp())
            for record in records
        )
        counts = self._services.settings.on_expiry != "ignore"
        if has_changed or counts:
            await self._look_at_all(has_changed=has_changed, counts=counts)
        await self._forget()

    async def _look_at_all(self, *, has_changed: bool, counts: bool) -> None:
        now = _unix_now()
        for number, relayed in enumerate(tuple(self._services.relayed), 1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            if has_changed and self._services.admission.revocations.covers(relayed.caller):
                close_revoked(relayed)
            elif counts and relayed.expires_at <= now:
                await self._expired(relayed, now)

    async def _expired(self, relayed: Relayed, now: float) -> None:
        if self._services.settings.on_expiry == "refresh":
            renewed = await self._store.find_renewal(
                relayed.agent.key, relayed.caller.identity.owner
            )
            if renewed is not None and renewed.timestamp() > now:
                relayed.expires_at = renewed.timestamp()
                return
        _close(relayed, "the token has expired (on_expiry)", ClosedBy.LIMIT, limit="on_expiry")

    async def _forget(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + _FORGET_EVERY_S
        now = dt.datetime.now(dt.UTC)
        await self._store.forget_credentials(renewals_before=now, revocations_before=now - _KEPT)


def close_revoked(relayed: Relayed) -> None:
    """Close the connection of a caller whose credential was revoked."""
    _close(relayed, "what you came in with was revoked", ClosedBy.REVOCATION)


def _close(relayed: Relayed, reason: str, by: ClosedBy, *, limit: str = "") -> None:
    relayed.relay.close(CloseCode.POLICY_VIOLATION, reason, by, limit=limit)


def _unix_now() -> float:
    return time.time()  # noqa: TID251 - what tokens say is wall-clock time
