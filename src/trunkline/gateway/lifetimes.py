"""How long what is open outlives what it was let in with. One look at all, now and then.

Open are relayed connections, and HTTP requests that are being answered. Revocations are fetched
from the store every ``credential_check_s``, so what one process of the platform is told reaches
what is open at all of them. When tokens count while something is open (``on_expiry``), those that
are over are looked for at the same time: a frame costs nothing.
"""

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from trunkline.auth.caller import Caller
from trunkline.auth.identity import Identity
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.summary import ClosedBy
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import SessionKey
from trunkline.store.records import RevocationRecord

_log = logging.getLogger("trunkline.gateway")
#: Longer than any token lives that is worth having.
_KEPT = dt.timedelta(days=400)
_FORGET_EVERY_S = 600.0
#: Connections that are looked at before others get a turn.
_AT_ONCE = 500


class Outliving(Protocol):
    """What is open, and may have to end: a connection, or a request that is being answered."""

    expires_at: float
    """When what the caller has shown ends, in Unix seconds."""

    @property
    def caller(self) -> Caller | None:
        """Whom it is open to, once that is known."""

    @property
    def session(self) -> SessionKey | None:
        """The session it is about, if it is about one."""

    def close(self, reason: str, by: ClosedBy, *, limit: str = "") -> None:
        """End it. Again is fine."""


class Credentials(Protocol):
    """What knows which credentials were revoked or renewed."""

    async def list_revocations(self) -> Sequence[RevocationRecord]:
        """Return every revocation there is."""

    async def find_renewal(self, key: SessionKey, identity: str) -> dt.datetime | None:
        """Return until when an identity has shown a credential for a session."""

    async def forget_credentials(
        self, *, renewals_before: dt.datetime, revocations_before: dt.datetime
    ) -> None:
        """Forget those that are too old to matter."""


class Lifetimes:
    """Ends what is open to callers who may not be here any more."""

    def __init__(self, services: GatewayServices, store: Credentials) -> None:
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
            await self._look_at_all(self._services.relayed, counts=counts)
        # There are few of them, and what ends one may be lost where its task is being cancelled.
        await self._look_at_all(self._services.answering, counts=counts)
        await self._forget()

    async def _look_at_all(self, them: Iterable[Outliving], *, counts: bool) -> None:
        now, revocations = _unix_now(), self._services.admission.revocations
        for number, each in enumerate(tuple(them), 1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            if each.caller is None:
                continue
            if revocations.covers(each.caller):
                close_revoked(each)
            elif counts and each.expires_at <= now:
                await self._expired(each, each.caller, now)

    async def _expired(self, each: Outliving, caller: Caller, now: float) -> None:
        key = each.session
        if self._services.settings.on_expiry == "refresh" and key is not None:
            renewed = await self._store.find_renewal(key, caller.identity.owner)
            if renewed is not None and renewed.timestamp() > now:
                each.expires_at = renewed.timestamp()
                return
        each.close("the token has expired (on_expiry)", ClosedBy.LIMIT, limit="on_expiry")

    async def _forget(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + _FORGET_EVERY_S
        now = dt.datetime.now(dt.UTC)
        await self._store.forget_credentials(renewals_before=now, revocations_before=now - _KEPT)


def close_revoked(each: Outliving) -> None:
    """End what is open to a caller whose credential was revoked."""
    each.close("what you came in with was revoked", ClosedBy.REVOCATION)


def _unix_now() -> float:
    return time.time()  # noqa: TID251 - what tokens say is wall-clock time
