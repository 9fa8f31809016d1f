"""Takes one WebSocket upgrade from its head to the relay, or refuses it in plain HTTP."""

import asyncio
import logging
import os
from typing import Any

from trunkline.auth.admission import speaking_for
from trunkline.auth.caller import Caller, acting_for
from trunkline.auth.grants import Permission
from trunkline.auth.identity import Identity
from trunkline.gateway import carriage, routes, upstream
from trunkline.gateway.handshake import check_handshake
from trunkline.gateway.leases import Lease
from trunkline.gateway.lifetimes import close_revoked
from trunkline.gateway.limits import Place
from trunkline.gateway.reach import reach
from trunkline.gateway.relayed import Agent, LocalAgent, Relayed, RemoteAgent, Visitor
from trunkline.gateway.requests import UpgradeRequest, marks_of, new_call_id
from trunkline.gateway.responses import refusal
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.ticket_office import MAX_LIFETIME_S
from trunkline.protocol import headers
from trunkline.protocol.errors import (
    INTERNAL_ERROR,
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    TrunklineError,
    UnavailableError,
)
from trunkline.protocol.ids import SessionKey
from trunkline.sessions.directory import new_session_id
from trunkline.sessions.elsewhere import SessionElsewhereError

_log = logging.getLogger("trunkline.gateway")
_FEATURES = headers.FOUNDRY_FEATURES.encode()
_MAX_EARLY_BYTES = 64 * 1024
_SWITCHING = 101
#: Headers of an answer that are the platform's; an agent's of the same name are dropped.
_OUR_ANSWERS = frozenset({headers.SESSION_ID.encode(), headers.REQUEST_ID.encode()})

#: Until it is known who has come.
_NOBODY = Caller(identity=Identity("", ""))


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
        self._request = request
        self._transport = transport
        self._services = services
        self._connections = connections
        self._early = bytearray()
        self._marks = marks_of(request.fields.marking)
        self._request_id = self._marks.request_id
        self._session: SessionKey | None = None
        self._sentinel: str | None = None
        self._caller: Caller = _NOBODY
        self._connections.add(self)
        self._task = services.tasks.spawn(self._run(), name=f"upgrade:{self._request_id}")

    def data_received(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > _MAX_EARLY_BYTES:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._task.cancel()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._place.release()
        self._task.cancel()

    def shutdown(self) -> None:
        """Drain: refuse what hasn't been answered yet."""
        self._task.cancel()
        self._refuse(UnavailableError("the platform is restarting; connect again"))

    async def _run(self) -> None:
        try:
            await self._connect()
        except TrunklineError as error:
            self._refuse(error)
        except Exception:  # noqa: BLE001 - the task's outermost frame
            _log.exception("an upgrade failed", extra={"request_id": self._request_id})
            self._refuse(INTERNAL_ERROR)

    def _refuse(self, error: TrunklineError) -> None:
        self._services.metrics.upgrades.labels(str(error.status)).inc()
        self._services.count_refusal(error)
        if isinstance(error, AuthenticationError):
            self._services.rates.failures_by_address.count(self._client)
        if error.status >= 500 and self._session is not None:
            self._services.errors.add(self._session.project, self._session.agent)
        self._record(error.status)
        _log.info(
            "upgrade refused: status=%d code=%s limit=%s session=%s address=%s request_id=%s",
            error.status,
            error.code,
            error.limit or "-",
            self._session,
            self._client,
            self._request_id,
        )
        if self._transport.is_closing():
            return
        extra = [(headers.REQUEST_ID, self._request_id)]
        if self._session is not None:
            extra.append((headers.SESSION_ID, self._session.session_id))
        self._transport.write(refusal(error, *extra))
        self._transport.close()

    def _record(self, status: int) -> None:
        key = self._session
        self._services.audit.add(
            "connect",
            status,
            place=(None, None, None) if key is None else (key.project, key.agent, key.session_id),
            caller=None if self._caller is _NOBODY else self._caller,
            address=self._client,
            request_id=self._request_id,
        )

    async def _connect(self) -> None:
        request, services = self._request, self._services
        if not routes.is_websocket_path(request.path):
            raise NotFoundError("no WebSocket endpoint is at this path")
        services.refuse_if_draining()
        services.rates.failures_by_address.check(self._client)
        services.rates.upgrades_by_address.take(self._client)
        origin = request.header(b"origin")
        if origin is not None:
            services.origins.check(origin, request.header(b"host"))
        request, carried = carriage.take_out(request)
        self._sentinel = carried.sentinel
        caller, bound_to = await self._admit(request, carried)
        self._caller = caller
        check_handshake(request)
        self._place.take_address(self._client)
        target = routes.match_websocket(
            request.path,
            request.query,
            request.header(_FEATURES),
            services.projects,
        )
        if bound_to is not None:
            _check_ticket(target, bound_to)
            session_id = bound_to.session_id
        else:
            session_id = target.session_id or new_session_id()
        self._session = key = SessionKey(target.project, target.agent, session_id)
        caller.require(Permission.USE, key.project, key.agent)
        user = caller.user
        services.rates.upgrades_by_identity.take(user.owner)
        self._place.take_identity(user.owner)
        head = upstream.upgrade_head(
            target.query,
            request.forwarded,
            f"{headers.USER_ID}: {services.pseudonyms.of(user)}\r\n"
            f"{headers.CALL_ID}: {new_call_id()}\r\n{self._marks.lines}",
        )

        async def ask(lease: Lease) -> upstream.Upgraded:
            # Only here it is known that the session is the caller's, and which one it is.
            self._session = lease.key
            self._place.take_session(lease.key)
            return await upstream.upgrade(
                lease.address,
                head,
                services.answers_due,
                # The compiled pump is to have it for nearly all of its life.
                lookout=services.lookout if self._is_for_pump else None,
            )

        is_named = bound_to is not None or target.session_id is not None
        try:
            lease, upgraded = await reach(
                services, key, caller, routes.PROTOCOL, ask, is_named=is_named
            )
        except SessionElsewhereError as error:
            request = await self._for_peer(request, carried, caller, key)
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

    async def _admit(
        self, request: UpgradeRequest, carried: carriage.Carried
    ) -> tuple[Caller, SessionKey | None]:
        def get(name: str) -> str | None:
            return request.header(name.encode())

        admission = self._services.admission
        if carried.ticket is None:
            caller = await admission.identify(carried.authorization)
            # Few name somebody, and which fields do so is known of those that came before.
            return speaking_for(caller, get) if request.fields.names_user else caller, None
        if acting_for(get) is not None:
            raise InvalidRequestError("whoever made the ticket has said whom it is for")
        caller, key = await self._services.tickets.redeem(carried.ticket, request.header(b"origin"))
        admission.revocations.check(caller)
        return caller, key

    async def _for_peer(
        self, request: UpgradeRequest, carried: carriage.Carried, caller: Caller, key: SessionKey
    ) -> UpgradeRequest:
        if carried.authorization is not None:
            return carriage.with_authorization(request, carried.authorization)
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
        services = self._services
        self._connections.discard(self)
        relayed = Relayed(
            services,
            self._connections,
            agent=agent,
            visitor=Visitor(caller=self._caller, address=self._client, request_id=self._request_id),
            place=self._place,
        )
        relay = relayed.begin(self._transport, upgraded.transport)
        services.metrics.upgraded.inc()
        self._record(_SWITCHING)
        agent.event("ConnectionOpened", f"request_id={self._request_id}")
        self._transport.write(
            answer_head(upgraded.head, agent.key, self._request_id, self._sentinel)
        )
        relay.start(upgraded.rest, bytes(self._early))
        if services.admission.revocations.covers(self._caller):
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
    ours = [(headers.SESSION_ID, key.session_id), (headers.REQUEST_ID, request_id)]
    lowered = head.lower()
    lines = [head]
    if sentinel or any(name in lowered for name in _OUR_ANSWERS):
        lines = [
            line
            for line in head.split(b"\r\n")
            if line.partition(b":")[0].strip().lower() not in _OUR_ANSWERS
        ]
    if sentinel and not any(_is_protocol(line) for line in lines):
        # RFC 6455 section 4.1: a browser that offered some wants to see one of them. What it
        # sees is never what let it in.
        ours.append(("sec-websocket-protocol", sentinel))
    lines += [f"{name}: {value}".encode("latin-1") for name, value in ours]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _is_protocol(line: bytes) -> bool:
    return line.partition(b":")[0].strip().lower() == b"sec-websocket-protocol"


def _check_ticket(target: routes.Target, key: SessionKey) -> None:
    if (target.project, target.agent) != (key.project, key.agent):
        raise AuthenticationError("the ticket is for another agent")
    if target.session_id not in (None, key.session_id):
        raise AuthenticationError("the ticket is for another session")
