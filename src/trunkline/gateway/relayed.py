"""A connection that is being relayed: whose it is, and what has to be done at its end."""

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from trunkline.auth.caller import Caller
from trunkline.gateway.ending import event_of, line_of, open_event_of
from trunkline.gateway.leases import Held
from trunkline.gateway.limits import Place
from trunkline.gateway.live import is_failure
from trunkline.gateway.moved import MovedRelay
from trunkline.gateway.relay import Relay
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.summary import ClosedBy, Summary
from trunkline.protocol import close
from trunkline.protocol.ids import SessionKey
from trunkline.runtimes.interface import Address

_log = logging.getLogger("trunkline.gateway")
_EXIT_NOTICE_S = 0.5


class Agent(Protocol):
    """The other end of a relay."""

    key: SessionKey
    version: str
    is_local: bool
    address: Address | None

    def ended(self, event: Mapping[str, Any], words: str) -> None:
        """Keep how the connection to it ended, and give back what was held meanwhile."""

    def event(self, reason: str, message: str) -> None:
        """Write to the session's log."""

    def rests_with(self, relay: Relay) -> None:
        """Let it sleep while the relay has no need of it."""

    def stay_awake(self, why: str) -> None:
        """Have it go on, if it is frozen, and freeze it no more."""

    def used_by(self, request_id: str, address: str, began_at: float) -> None:
        """Say which connection leads to it, and since when by the monotonic clock."""

    def let_go(self) -> None:
        """Leave what is held to another process, which relays the connection from here on."""

    def release(self) -> None:
        """Give back what was held while the connection was open."""

    async def explain_loss(self) -> str:
        """Say why it went away without a close frame."""


class LocalAgent:
    """An agent of this process."""

    is_local = True
    __slots__ = ("_hold", "address", "key", "version")

    def __init__(self, hold: Held, version: str) -> None:
        self._hold = hold
        self.key = hold.key
        self.address: Address | None = hold.address
        self.version = version

    def ended(self, event: Mapping[str, Any], words: str) -> None:
        self._hold.connection_ended(event, words)

    def event(self, reason: str, message: str) -> None:
        self._hold.log.event(reason, message)

    def rests_with(self, relay: Relay) -> None:
        self._hold.rests_with(relay)

    def stay_awake(self, why: str) -> None:
        self._hold.stay_awake(why)

    def used_by(self, request_id: str, address: str, began_at: float) -> None:
        self._hold.used_by(request_id, address, self.version, began_at)

    def let_go(self) -> None:
        self._hold.let_go()

    def release(self) -> None:
        self._hold.release()

    async def explain_loss(self) -> str:
        try:
            async with asyncio.timeout(_EXIT_NOTICE_S):
                status = await self._hold.wait_exited()
        except TimeoutError:
            return "the agent ended the connection without a close frame"
        return f"the agent's process ended: {status}"


class RemoteAgent:
    """An agent of another process of the platform, which keeps its log and its lease."""

    is_local = False
    address: Address | None = None
    #: That process knows.
    version = "-"

    def __init__(self, key: SessionKey) -> None:
        self.key = key

    def ended(self, event: Mapping[str, Any], words: str) -> None:
        pass

    def event(self, reason: str, message: str) -> None:
        pass

    def rests_with(self, relay: Relay) -> None:
        pass

    def stay_awake(self, why: str) -> None:
        pass

    def used_by(self, request_id: str, address: str, began_at: float) -> None:
        pass

    def let_go(self) -> None:
        pass

    def release(self) -> None:
        pass

    async def explain_loss(self) -> str:
        return "the process of the platform that ran the session went away; connect again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who came in by an upgrade.

    Attributes:
        caller: Who it is.
        address: The client's address.
        request_id: The upgrade's id.
    """

    caller: Caller
    address: str
    request_id: str


class Relayed:
    """One relay, with the agent it leads to and the place it takes."""

    __slots__ = (
        "_connections",
        "_relay",
        "_services",
        "agent",
        "caller",
        "client",
        "expires_at",
        "place",
        "request_id",
    )

    def __init__(
        self,
        services: GatewayServices,
        connections: set[Any],
        *,
        agent: Agent,
        visitor: Visitor,
        place: Place,
    ) -> None:
        """Prepare.

        Args:
            services: What the gateway's parts share.
            connections: What uvicorn waits for when it stops, and tells to.
            agent: The other end. It is released at the end.
            visitor: Who came in, and from where.
            place: The connection's share of the limits. It is released at the end.
        """
        self._services = services
        self._connections = connections
        self.agent = agent
        self.caller = visitor.caller
        #: When what the caller has shown ends, in Unix seconds.
        self.expires_at = visitor.caller.expires_at
        self.place = place
        self.client = visitor.address
        self.request_id = visitor.request_id
        self._relay: Relay | None = None

    @property
    def relay(self) -> Relay:
        """The relay, once it has begun."""
        assert self._relay is not None
        return self._relay

    @property
    def session(self) -> SessionKey:
        """The session it leads to."""
        return self.agent.key

    def close(self, reason: str, by: ClosedBy, *, limit: str = "") -> None:
        """Close it for what its caller did, or didn't: with 1008."""
        self.relay.close(close.CloseCode.POLICY_VIOLATION, reason, by, limit=limit)

    @property
    def counted_as(self) -> dict[str, Any]:
        """What it counts as, towards the limits on connections."""
        return self.place.counted_as

    def begin(
        self,
        downstream: asyncio.Transport,
        upstream: asyncio.Transport,
        moved: MovedRelay | None = None,
    ) -> Relay:
        """Relay between two connections from here on."""
        services = self._services
        relay = self._relay = Relay(
            downstream,
            upstream,
            services.settings,
            carrier=services.carrier,
            on_end=self._ended,
            explain_loss=self.agent.explain_loss,
        )
        if moved is not None:
            relay.resume(moved)
        self.agent.rests_with(relay)
        self._remember(relay)
        began_at = time.monotonic() if moved is None else moved.started_at
        self.agent.used_by(self.request_id, self.client, began_at)
        return relay

    def so_far(self) -> dict[str, Any]:
        """Return what the connection was until now, as the event that is kept at its end."""
        return open_event_of(
            self.relay.so_far(),
            version=self.agent.version,
            request_id=self.request_id,
            address=self.client,
            at=dt.datetime.now(dt.UTC),
        )

    def detach(self) -> MovedRelay | None:
        """Leave the connections as they are, as :meth:`Relay.detach`, for nobody to end them.

        Call `leave` or `come_back` after it.
        """
        moved = self.relay.detach()
        if moved is not None:
            self._forget()
        return moved

    def leave(self) -> None:
        """Let go of the connections and of what was counted for them: another process has them.

        The agent isn't released: that process does that.
        """
        self.relay.leave()
        self.place.release()
        self.agent.let_go()

    def come_back(self, moved: MovedRelay) -> None:
        """Go on: nobody took the connections over."""
        self._remember(self.relay)
        self.relay.come_back(moved)

    def _remember(self, relay: Relay) -> None:
        services = self._services
        self._connections.add(relay.downstream)
        services.sweep.add(relay)
        services.relayed.add(self)
        services.metrics.connections.inc()

    def _forget(self) -> None:
        services = self._services
        services.sweep.discard(self.relay)
        services.relayed.discard(self)
        self._connections.discard(self.relay.downstream)
        services.metrics.connections.dec()

    def _ended(self, summary: Summary) -> None:
        services, agent = self._services, self.agent
        metrics = services.metrics
        self._forget()
        self.place.release()
        metrics.closes.labels(_code_label(summary.code), summary.by.value).inc()
        metrics.frames_in.inc(summary.frames_in)
        metrics.frames_out.inc(summary.frames_out)
        metrics.bytes_in.inc(summary.bytes_in)
        metrics.bytes_out.inc(summary.bytes_out)
        if summary.limit:
            metrics.refusals.labels(summary.limit).inc()
        if is_failure(summary):
            services.errors.add(agent.key.project, agent.key.agent)
        if summary.was_cut:
            metrics.refusals.labels("close_timeout_s").inc()
        event = event_of(
            summary,
            services.settings,
            version=agent.version,
            request_id=self.request_id,
            address=self.client,
            at=dt.datetime.now(dt.UTC),
        )
        words = line_of(event)
        agent.ended(event, words)
        _log.info("connection closed: session=%s %s", agent.key, words)


def _code_label(code: int) -> str:
    # The client chooses the code: each one it makes up must not be a time series of its own.
    if code in close.WORDS:
        return str(code)
    return "application" if 4000 <= code <= 4999 else "other"
