"""Where the main process answers one worker, and holds what the worker uses."""

import datetime as dt
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trunkline.auth.caller import Caller
from trunkline.gateway.door import Origin
from trunkline.gateway.ending import event_of, line_of
from trunkline.gateway.live import ErrorsToday
from trunkline.gateway.settings import GatewaySettings
from trunkline.gateway.summary import ClosedBy, Summary
from trunkline.platform.workers.words import error_words, key_words, record_from, record_words
from trunkline.protocol.close import WORKER_ENDED, CloseCode
from trunkline.protocol.errors import INTERNAL_ERROR, NotFoundError, TrunklineError
from trunkline.protocol.ids import NodeId
from trunkline.sessions.arriving import key_from
from trunkline.sessions.directory import SessionDirectory
from trunkline.sessions.slot import Hold
from trunkline.store.interface import Store
from trunkline.store.records import AuditRecord, TicketRecord
from trunkline.telemetry.metrics import Metrics

_log = logging.getLogger("trunkline.workers")
_Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskServices:
    """What the main process has that workers ask for."""

    settings: GatewaySettings
    sessions: SessionDirectory
    store: Store
    metrics: Metrics
    errors: ErrorsToday
    take_connection: Callable[[bytes, int, Origin | None], Awaitable[None]]
    """Serves an HTTP connection, beginning with what was read of it."""


@dataclass(frozen=True, slots=True)
class _Use:
    """The connection a lease is held for, in case that the worker dies."""

    request_id: str
    address: str
    version: str
    began_at: float
    """By the monotonic clock, which is the same for all of a machine's processes."""


@dataclass(slots=True)
class _Holding:
    """A lease, and what it is held for."""

    hold: Hold
    use: _Use | None = None
    has_moved: bool = False
    """Whether a worker of another platform process held it before."""


class Desk:
    """The leases one worker uses, and the answers to what it asks."""

    def __init__(self, services: DeskServices) -> None:
        self._services = services
        self._numbers = itertools.count(1)
        self._held: dict[int, _Holding] = {}
        self._connections = 0
        self._ask: dict[str, Callable[[Mapping[str, Any]], Awaitable[_Answer]]] = {
            "acquire": self._acquire,
            "lease moved": self._lease_moved,
            "is passed on": self._is_passed_on,
            "exited": self._exited,
            "add ticket": self._add_ticket,
            "take ticket": self._take_ticket,
            "find api key": self._find_api_key,
            "find node": self._find_node,
            "list revocations": self._list_revocations,
            "find renewal": self._find_renewal,
            "add audit": self._add_audit,
        }
        self._tell: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "used": self._used,
            "release": self._release,
            "let go": self._let_go,
            "event": self._event,
            "ended": self._ended,
            "failed": self._failed,
            "counted": self._counted,
        }

    async def answer(self, message: Mapping[str, Any]) -> _Answer:
        """Answer what the worker asks."""
        try:
            return await self._ask[message["do"]](message)
        except TrunklineError as error:
            return error_words(error)
        except Exception:  # noqa: BLE001 - whoever asked is told, the log has the rest
            _log.exception("a worker can't be answered: %s", message.get("do"))
            return error_words(INTERNAL_ERROR)

    # Leases

    async def _acquire(self, message: Mapping[str, Any]) -> _Answer:
        lease = await self._services.sessions.acquire(
            key_from(message["key"]),
            Caller.from_json(message["caller"]),
            protocol=message["protocol"],
            is_named=message["is_named"],
        )
        return self._hold(lease, lease.version.version)

    async def _lease_moved(self, message: Mapping[str, Any]) -> _Answer:
        # The worker knows the version.
        hold = self._services.sessions.arriving.lease_moved(key_from(message["key"]))
        return self._hold(hold, "", has_moved=True)

    def _hold(self, hold: Hold, version: str, *, has_moved: bool = False) -> _Answer:
        number = next(self._numbers)
        self._held[number] = _Holding(hold, has_moved=has_moved)
        return {
            "lease": number,
            "key": key_words(hold.key),
            "path": hold.address.path,
            "port": hold.address.port,
            "version": version,
        }

    async def _is_passed_on(self, _: Mapping[str, Any]) -> _Answer:
        return {"is": self._services.sessions.is_passed_on}

    async def _exited(self, message: Mapping[str, Any]) -> _Answer:
        holding = self._held.get(message["lease"])
        if holding is None:
            raise NotFoundError("there is no such lease")
        status = await holding.hold.wait_exited()
        return {"code": status.code, "signal": status.signal, "why": status.why}

    # The store

    async def _add_ticket(self, message: Mapping[str, Any]) -> _Answer:
        record = record_from(TicketRecord, message["record"])
        await self._services.store.add_ticket(record, dt.datetime.fromisoformat(message["now"]))
        return {}

    async def _take_ticket(self, message: Mapping[str, Any]) -> _Answer:
        return _found(await self._services.store.take_ticket(message["digest"]))

    async def _find_api_key(self, message: Mapping[str, Any]) -> _Answer:
        return _found(await self._services.store.find_api_key(message["key_id"]))

    async def _find_node(self, message: Mapping[str, Any]) -> _Answer:
        return _found(await self._services.store.find_node(NodeId(message["node"])))

    async def _list_revocations(self, _: Mapping[str, Any]) -> _Answer:
        records = await self._services.store.list_revocations()
        return {"records": [record_words(record) for record in records]}

    async def _find_renewal(self, message: Mapping[str, Any]) -> _Answer:
        at = await self._services.store.find_renewal(key_from(message["key"]), message["identity"])
        return {"at": None if at is None else at.isoformat()}

    async def _add_audit(self, message: Mapping[str, Any]) -> _Answer:
        records = [record_from(AuditRecord, words) for words in message["records"]]
        await self._services.store.add_audit(records)
        return {}

    # What is told

    def _used(self, message: Mapping[str, Any]) -> None:
        if (holding := self._held.get(message["lease"])) is not None:
            holding.use = _Use(
                message["request_id"], message["address"], message["version"], message["began_at"]
            )

    def _release(self, message: Mapping[str, Any]) -> None:
        if (holding := self._held.pop(message["lease"], None)) is not None:
            holding.hold.release()

    def _let_go(self, message: Mapping[str, Any]) -> None:
        if (holding := self._held.pop(message["lease"], None)) is not None:
            holding.hold.let_go()

    def take(self, message: Mapping[str, Any]) -> None:
        """Do what the worker tells."""
        self._tell[message["do"]](message)

    def _event(self, message: Mapping[str, Any]) -> None:
        if (holding := self._held.get(message["lease"])) is not None:
            holding.hold.log.event(message["reason"], message["message"])

    def _ended(self, message: Mapping[str, Any]) -> None:
        if (holding := self._held.pop(message["lease"], None)) is not None:
            event = message["event"]
            holding.hold.connection_ended(event, line_of(event))

    def _failed(self, message: Mapping[str, Any]) -> None:
        self._services.errors.add(message["project"], message["agent"])

    def _counted(self, message: Mapping[str, Any]) -> None:
        metrics = self._services.metrics
        for name, labels, number in message["counts"]:
            metrics.add(name, labels, number)
        metrics.connections.inc(message["connections"] - self._connections)
        self._connections = message["connections"]
        metrics.measure_waiting(self, message["waiting"])

    def close(self) -> int:
        """Take everything back from a worker that has ended; return the connections it lost."""
        self._services.metrics.connections.dec(self._connections)
        self._services.metrics.measure_waiting(self, {})
        self._connections = 0
        lost = 0
        for holding in self._held.values():
            if holding.use is not None:
                lost += 1
                self._tell_lost(holding.hold, holding.use)
            elif holding.has_moved:
                # The worker that has the connection didn't hear that this one had taken it.
                self._services.sessions.arriving.lease_stays(holding.hold)
            holding.hold.release()
        self._held.clear()
        return lost

    def _tell_lost(self, hold: Hold, use: _Use) -> None:
        event = event_of(
            Summary(
                by=ClosedBy.NETWORK,
                code=CloseCode.ABNORMAL,
                reason=WORKER_ENDED,
                limit="",
                frames_in=0,
                frames_out=0,
                bytes_in=0,
                bytes_out=0,
                age_s=time.monotonic() - use.began_at,
                quiet_in_s=None,
                quiet_out_s=None,
                was_cut=False,
            ),
            self._services.settings,
            version=use.version,
            request_id=use.request_id,
            address=use.address,
            at=dt.datetime.now(dt.UTC),
        )
        self._services.metrics.closes.labels(str(event["code"]), ClosedBy.NETWORK.value).inc()
        hold.connection_ended(event, line_of(event))


def _found(record: Any) -> _Answer:
    return {"record": None if record is None else record_words(record)}
