"""Takes one WebSocket upgrade from its head to the relay, or refuses it in plain HTTP."""

import asyncio
import logging
import os
from typing import Any

from trunkline.auth.caller import Caller
from trunkline.gateway import carriage, routes, upstream
from trunkline.gateway.leases import Lease
from trunkline.gateway.lifetimes import close_revoked
from trunkline.gateway.limits import Place
from trunkline.gateway.passes import Admitted, Pass, SeenHead
from trunkline.gateway.reach import reach
from trunkline.gateway.relayed import Agent, LocalAgent, Relayed, RemoteAgent, Visitor
from trunkline.gateway.requests import UpgradeRequest, marks_of, new_call_id
from trunkline.gateway.responses import refusal
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.ticket_office import MAX_LIFETIME_S
from trunkline.gateway.vetting import Shown, ShownLater, Vetting
from trunkline.protocol import headers
from trunkline.protocol.errors import (
    INTERNAL_ERROR,
    AuthenticationError,
    TrunklineError,
    UnavailableError,
)
from trunkline.protocol.ids import SessionKey
from trunkline.sessions.elsewhere import SessionElsewhereError

_log = logging.getLogger("trunkline.gateway")
_MAX_EARLY_BYTES = 64 * 1024
_SWITCHING = 101
#: Headers of an answer that are the platform's; an agent's of the same name are dropped.
_SESSION_ID, _REQUEST_ID = headers.SESSION_ID.encode(), headers.REQUEST_ID.encode()
_OUR_ANSWERS = frozenset({_SESSION_ID, _REQUEST_ID})


class Upgrade(asyncio.Protocol):
    """One connection while its upgrade is under way.

    It keeps what the client sends too early, notices when the client leaves, and is replaced by
    the relay's own protocol once the agent has answered.
    """

    def __init__(
        self,
        request: UpgradeRequest,
        transport: asyncio.Transport,
        services: GatewayServices,
        connections: set[Any],
        *,
        place: Place,
    ) -> None:
        self._place = place
        self._client = services.limits.proxies.client_of(
            place.peer, request.header(b"x-forwarded-for")
        )
        self._vetting = Vetting(request, services, place, self._client)
        self._transport = transport
        self._services = services
        self._connections = connections
        self._early = bytearray()
        self._marks = marks_of(request.fields.marking)
        self._request_id = self._marks.request_id
        #: What is under way, one or the other: a question to the agent, with the right to ask it,
        #: or all that has to be waited for.
        self._asked: tuple[Lease, upstream.Asking] | None = None
        self._task: asyncio.Task[None] | None = None
        connections.add(self)

    def begin(self, early: bytes, found: Pass | None = None, seen: SeenHead | None = None) -> None:
        """Begin: it is the connection's protocol.

        If nothing has to be waited for, it gets as far as the agent here and now. Otherwise it
        becomes a task, which goes on from there.

        Args:
            early: What the client has sent behind its head.
            found: What another head like this one came to.
            seen: How the next one like it will be found.
        """
        if early:
            self.data_received(early)
        vetting = self._vetting
        way: Admitted | ShownLater
        try:
            if found is not None:
                way = found.admitted
                vetting.let_in_again(way)
            else:
                shown = vetting.look()
                way = vetting.let_in(shown, seen) if isinstance(shown, Shown) else shown
            if isinstance(way, Admitted) and self._ask_now(way):
                return
        except Exception as error:  # noqa: BLE001 - a callback's outermost frame
            self._fail(error)
            return
        self._task = self._services.tasks.spawn(
            self._run(way, seen), name=f"upgrade:{self._request_id}"
        )

    def data_received(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > _MAX_EARLY_BYTES:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._stop()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._place.release()
        self._stop()

    def shutdown(self) -> None:
        """Drain: refuse what hasn't been answered yet."""
        self._stop()
        self._refuse(UnavailableError("the platform is restarting; connect again"))

    def _stop(self) -> None:
        """Ask nobody any more. Twice is fine."""
        if self._task is not None:
            self._task.cancel()
        asked, self._asked = self._asked, None
        if asked is not None:
            lease, asking = asked
            asking.abort()
            lease.release()

    async def _run(self, way: Admitted | ShownLater, seen: SeenHead | None) -> None:
        try:
            if not isinstance(way, Admitted):
                way = self._vetting.let_in(await way(), seen)
            await self._ask(way)
        except Exception as error:  # noqa: BLE001 - the task's outermost frame
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, TrunklineError):
            self._refuse(error)
            return
        _log.error("an upgrade failed", exc_info=error, extra={"request_id": self._request_id})
        self._refuse(INTERNAL_ERROR)

    def _refuse(self, error: TrunklineError) -> None:
        session = self._vetting.session
        self._services.metrics.upgrades.labels(str(error.status)).inc()
        self._services.count_refusal(error)
        if isinstance(error, AuthenticationError):
            self._services.rates.failures_by_address.count(self._client)
        if error.status >= 500 and session is not None:
            self._services.errors.add(session.project, session.agent)
        self._record(error.status)
        _log.info(
            "upgrade refused: status=%d code=%s limit=%s session=%s address=%s request_id=%s",
            error.status,
            error.code,
            error.limit or "-",
            session or "-",
            self._client,
            self._request_id,
        )
        if self._transport.is_closing():
            return
        extra = [(headers.REQUEST_ID, self._request_id)]
        if session is not None:
            extra.append((headers.SESSION_ID, session.session_id))
        self._transport.write(refusal(error, *extra))
        self._transport.close()

    def _record(self, status: int) -> None:
        key = self._vetting.session
        self._services.audit.add(
            "connect",
            status,
            place=(None, None, None) if key is None else (key.project, key.agent, key.session_id),
            caller=self._vetting.caller,
            address=self._client,
            request_id=self._request_id,
        )

    def _head(self, admitted: Admitted) -> bytes:
        """Return the head that the agent gets."""
        ours = f"{admitted.told}{headers.CALL_ID}: {new_call_id()}\r\n{self._marks.lines}\r\n"
        return admitted.start + self._vetting.request.own_forwarded + ours.encode("latin-1")

    def _ask_now(self, admitted: Admitted) -> bool:
        """Ask the agent, if that takes no waiting; tell whether it is asked."""
        services = self._services
        # A session that wasn't named isn't there yet.
        if not (admitted.is_named and self._is_for_pump):
            return False
        lease = services.sessions.acquire_now(
            admitted.key, admitted.caller, protocol=routes.PROTOCOL
        )
        if lease is None:
            return False
        try:
            self._place.take_session(lease.key)
            asking = upstream.ask_now(
                lease.address,
                self._head(admitted),
                services.answers_due,
                services.lookout,
                self._take_outcome,
            )
        except BaseException:
            lease.release()
            raise
        if asking is None:
            # It may have ended a moment ago, or have too much to do.
            lease.release()
            return False
        self._asked = lease, asking
        return True

    def _take_outcome(self, outcome: upstream.Upgraded | TrunklineError) -> None:
        asked, self._asked = self._asked, None
        assert asked is not None
        lease = asked[0]
        try:
            if isinstance(outcome, TrunklineError):
                lease.release()
                raise outcome
            self._start_relay(LocalAgent(lease, lease.version.version), outcome)
        except Exception as error:  # noqa: BLE001 - a callback's outermost frame
            self._fail(error)

    async def _ask(self, admitted: Admitted) -> None:
        """Ask the agent, wherever it is and once it runs, and begin to relay."""
        services, key, caller = self._services, admitted.key, admitted.caller
        head = self._head(admitted)

        async def ask(lease: Lease) -> upstream.Upgraded:
            # Only here it is known that the session is the caller's, and which one it is.
            self._vetting.session = lease.key
            self._place.take_session(lease.key)
            return await upstream.upgrade(
                lease.address,
                head,
                services.answers_due,
                # The compiled pump is to have it for nearly all of its life.
                lookout=services.lookout if self._is_for_pump else None,
            )

        try:
            lease, upgraded = await reach(
                services, key, caller, routes.PROTOCOL, ask, is_named=admitted.is_named
            )
        except SessionElsewhereError as error:
            request = await self._for_peer(caller, key)
            if services.sessions.is_passed_on and self._strand(request):
                return
            upgraded = await services.peers.upgrade(request, self._marks, self._client, error)
            if upgraded.status == _SWITCHING:
                self._start_relay(RemoteAgent(key), upgraded)
            else:
                self._pass_refusal(upgraded)
        else:
            self._start_relay(LocalAgent(lease, lease.version.version), upgraded)

    @property
    def _is_for_pump(self) -> bool:
        is_encrypted = self._transport.get_extra_info("ssl_object") is not None
        return self._services.carrier.is_available and not is_encrypted

    async def _for_peer(self, caller: Caller, key: SessionKey) -> UpgradeRequest:
        request, carried = self._vetting.request, self._vetting.carried
        if carried.ticket is None:
            authorization = carried.authorization or request.header(b"authorization")
            assert authorization, "without a ticket nobody comes in without it"
            return carriage.with_authorization(request, authorization)
        # What let it in here is used up. The other process gets one of its own.
        ticket, _ = await self._services.tickets.issue(
            caller, key, origin=None, lifetime_s=MAX_LIFETIME_S
        )
        return carriage.with_ticket(request, ticket)

    def _strand(self, request: UpgradeRequest) -> bool:
        """Leave the connection, as it came, to be moved to the process that replaces this one."""
        transport = self._transport
        if transport.is_closing() or transport.get_extra_info("ssl_object") is not None:
            return False
        try:
            file = os.dup(transport.get_extra_info("socket").fileno())
        except OSError:
            # The system has no descriptors for it: it is passed on through this process.
            return False
        transport.pause_reading()
        self._services.stranded.append((file, request.head + bytes(self._early)))
        self._connections.discard(self)
        self._place.release()
        transport.set_protocol(asyncio.Protocol())
        transport.abort()
        return True

    def _pass_refusal(self, upgraded: upstream.Upgraded) -> None:
        upgraded.transport.abort()
        self._services.metrics.upgrades.labels(str(upgraded.status)).inc()
        if not self._transport.is_closing():
            self._transport.write(upgraded.head + b"\r\n\r\n" + upgraded.rest)
            self._transport.close()

    def _start_relay(self, agent: Agent, upgraded: upstream.Upgraded) -> None:
        if self._transport.is_closing():
            upgraded.transport.abort()
            agent.release()
            return
        services, caller = self._services, self._vetting.caller
        assert caller is not None
        self._connections.discard(self)
        relayed = Relayed(
            services,
            self._connections,
            agent=agent,
            visitor=Visitor(caller=caller, address=self._client, request_id=self._request_id),
            place=self._place,
        )
        relay = relayed.begin(self._transport, upgraded.transport)
        services.metrics.upgraded.inc()
        self._record(_SWITCHING)
        agent.event("ConnectionOpened", f"request_id={self._request_id}")
        sentinel = self._vetting.carried.sentinel
        self._transport.write(answer_head(upgraded.head, agent.key, self._request_id, sentinel))
        relay.start(upgraded.rest, bytes(self._early))
        if services.admission.revocations.covers(caller):
            # It was revoked while the agent was being started.
            close_revoked(relayed)


def answer_head(head: bytes, key: SessionKey, request_id: str, sentinel: str | None) -> bytes:
    """Return an agent's 101 as the client gets it.

    Args:
        head: The agent's, without its last empty line.
        key: The session.
        request_id: The upgrade's id.
        sentinel: The subprotocol to answer with, if the agent chose none.
    """
    ours = f"\r\n{headers.SESSION_ID}: {key.session_id}\r\n{headers.REQUEST_ID}: {request_id}\r\n"
    lowered = head.lower()
    if sentinel or _SESSION_ID in lowered or _REQUEST_ID in lowered:
        lines = [
            line
            for line in head.split(b"\r\n")
            if line.partition(b":")[0].strip().lower() not in _OUR_ANSWERS
        ]
        head = b"\r\n".join(lines)
        if sentinel and not any(_is_protocol(line) for line in lines):
            # RFC 6455 section 4.1: a browser that offered some wants to see one of them. What it
            # sees is never what let it in.
            ours += f"sec-websocket-protocol: {sentinel}\r\n"
    return b"%b%b\r\n" % (head, ours.encode("latin-1"))


def _is_protocol(line: bytes) -> bool:
    return line.partition(b":")[0].strip().lower() == b"sec-websocket-protocol"
