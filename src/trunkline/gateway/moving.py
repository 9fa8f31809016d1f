"""Moves connections to the process that replaces this one, and takes in those of the last one.

A few at a time: each is still only while it is on its way, and the others go on. An HTTP
connection moves between two requests, or with what has come of the next one's head; an upgrade
that isn't connected to its agent yet moves as the bytes it came as. What neither relays nor rests
finishes where it is.
"""

import asyncio
import base64
import math
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from trunkline.aio.passing import PassingError, close_all
from trunkline.auth.caller import Caller
from trunkline.auth.identity import Identity
from trunkline.gateway.door import FrontDoor, Origin
from trunkline.gateway.first_look import FirstLook
from trunkline.gateway.leases import Held
from trunkline.gateway.lifetimes import close_revoked
from trunkline.gateway.moved import MovedLeg, MovedRelay, arrive
from trunkline.gateway.relayed import Agent, LocalAgent, Relayed, RemoteAgent, Visitor
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.summary import ClosedBy
from trunkline.gateway.upgrade import Upgrade
from trunkline.protocol.close import CloseCode
from trunkline.protocol.ids import SessionKey
from trunkline.sessions.arriving import key_from

#: So many are still at once.
_AT_ONCE: Final = 4
_ROUND_S: Final = 0.005
#: How long one that has something to send may be still, the first time it is tried again.
_PATIENCE_S: Final = 0.02
_MOST_PATIENCE_S: Final = 0.5
_POLL_S: Final = 0.001
#: An HTTP connection that is being answered is waited for so long, to move between two requests.
_SHORT_ANSWER_S: Final = 0.25


class NextProcess(Protocol):
    """Where connections go."""

    async def relays(self, relays: Sequence[Mapping[str, Any]], files: Sequence[int]) -> None:
        """Pass relays on; return when they go on there.

        Raises:
            PassingError: If they don't, and never will.
        """

    def connection(self, data: bytes, file: int) -> None:
        """Pass an HTTP connection on, with what was read of it."""


@dataclass(slots=True)
class Moved:
    """What became of the connections."""

    relays: int = 0
    """Those that were moved."""
    connections: int = 0
    """HTTP connections and upgrades that were moved."""
    encrypted: int = 0
    """Those that were told to come again (1001), because their TLS ends in the old process."""
    left: int = 0
    """Those that couldn't be moved in time, because one side was closing or took nothing."""
    pauses_s: list[float] = field(default_factory=list)
    """For how long the relays of each batch were still."""


class Departure:
    """The way out for a gateway's connections."""

    def __init__(self, services: GatewayServices, connections: set[Any]) -> None:
        """Prepare.

        Args:
            services: What the gateway's parts share.
            connections: uvicorn's: HTTP connections, upgrades and relays.
        """
        self._services = services
        self._connections = connections
        self._tries: Counter[Relayed] = Counter()
        self.moved = Moved()
        """What became of them so far."""

    async def move(self, to: NextProcess, timeout_s: float) -> Moved:
        """Move everything that can be moved; return when nothing is left, or it takes too long."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = began + timeout_s
        moved = self.moved
        while True:
            self._move_resting(to, moved)
            self._send_away_encrypted(moved)
            await self._move_relays(to, moved, deadline)
            upgrades = any(isinstance(each, Upgrade) for each in self._connections)
            is_short = loop.time() < began + _SHORT_ANSWER_S
            answering = is_short and any(isinstance(each, FrontDoor) for each in self._connections)
            if not (self._services.relayed or upgrades or answering or self._services.stranded):
                return moved
            if loop.time() > deadline:
                moved.left = len(self._services.relayed)
                return moved
            await asyncio.sleep(_ROUND_S)

    def _move_resting(self, to: NextProcess, moved: Moved) -> None:
        for each in list(self._connections):
            if isinstance(each, FirstLook | FrontDoor) and (taken := each.detach()) is not None:
                self._services.stranded.append(taken)
        while self._services.stranded:
            file, data = self._services.stranded.pop()
            try:
                to.connection(data, file)
            except BaseException:
                self._services.stranded.append((file, data))
                raise
            os.close(file)
            moved.connections += 1

    def _send_away_encrypted(self, moved: Moved) -> None:
        for relayed in list(self._services.relayed):
            if relayed.relay.is_encrypted and not self._tries[relayed]:
                self._tries[relayed] += 1
                moved.encrypted += 1
                relayed.relay.close(
                    CloseCode.GOING_AWAY,
                    "the platform is restarting; connect again with the same session id",
                    ClosedBy.DRAIN,
                )

    async def _move_relays(self, to: NextProcess, moved: Moved, deadline: float) -> None:
        # One that is ending is read on, and never held: what it waits for is what comes next.
        waiting = [
            relayed
            for relayed in self._services.relayed
            if not (relayed.relay.is_encrypted or relayed.relay.is_ending)
        ]
        fresh = [relayed for relayed in waiting if not self._tries[relayed]]
        for begin in range(0, len(fresh), _AT_ONCE):
            await self._move_batch(fresh[begin : begin + _AT_ONCE], 0.0, to, moved)
        for relayed in waiting:
            if asyncio.get_running_loop().time() >= deadline:
                # Waiting for each of many in turn takes longer than there is time.
                return
            tries = self._tries[relayed]
            if tries and relayed in self._services.relayed and not relayed.relay.is_ending:
                patience_s = min(_PATIENCE_S * 2.0 ** (tries - 1), _MOST_PATIENCE_S)
                await self._move_batch([relayed], patience_s, to, moved)

    async def _move_batch(
        self, batch: Sequence[Relayed], patience_s: float, to: NextProcess, moved: Moved
    ) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for relayed in batch:
            relayed.relay.hold()
        # What was read in this turn goes out at its end.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        described: list[dict[str, Any]] = []
        files: list[int] = []
        away: list[tuple[Relayed, MovedRelay]] = []
        may_be_theirs = False
        try:
            for relayed in batch:
                taken = relayed.detach()
                while (
                    taken is None
                    and not relayed.relay.is_ending
                    and loop.time() < began + patience_s
                ):
                    await asyncio.sleep(_POLL_S)
                    taken = relayed.detach()
                if taken is None:
                    self._tries[relayed] += 1
                    relayed.relay.go_on()
                else:
                    described.append(_described(relayed, taken))
                    away.append((relayed, taken))
                    files += (taken.downstream.fd, taken.upstream.fd)
            if away:
                may_be_theirs = True
                await to.relays(described, files)
                moved.relays += len(away)
                moved.pauses_s.append(loop.time() - began)
        except PassingError:
            may_be_theirs = False
            raise
        finally:
            close_all(files)
            for relayed, taken in away:
                if may_be_theirs:
                    relayed.leave()
                else:
                    relayed.come_back(taken)


def _described(relayed: Relayed, moved: MovedRelay) -> dict[str, Any]:
    key = relayed.agent.key
    return {
        "key": [key.project, key.agent, key.session_id],
        "version": relayed.agent.version,
        "is_local": relayed.agent.is_local,
        "place": relayed.counted_as,
        "caller": {
            "issuer": relayed.caller.identity.issuer,
            "subject": relayed.caller.identity.subject,
            "acting_for": relayed.caller.acting_for,
            "issued_at": relayed.caller.issued_at,
            "credential": relayed.caller.credential,
            # JSON has no number for never.
            "expires_at": None if math.isinf(relayed.expires_at) else relayed.expires_at,
        },
        "client": relayed.client,
        "request_id": relayed.request_id,
        "started_at": moved.started_at,
        "downstream": _described_leg(moved.downstream),
        "upstream": _described_leg(moved.upstream),
    }


def _described_leg(leg: MovedLeg) -> dict[str, Any]:
    return {
        "left": leg.left,
        "frames": leg.frames,
        "bytes_read": leg.bytes_read,
        "active_at": leg.active_at,
        "rest": base64.b64encode(leg.rest).decode(),
        "unsent": base64.b64encode(leg.unsent).decode(),
    }


def _leg_from(data: Mapping[str, Any], fd: int) -> MovedLeg:
    return MovedLeg(
        fd=fd,
        left=data["left"],
        frames=data["frames"],
        bytes_read=data["bytes_read"],
        active_at=data["active_at"],
        rest=base64.b64decode(data["rest"]),
        unsent=base64.b64decode(data["unsent"]),
    )


def _caller_from(data: Mapping[str, Any]) -> Caller:
    # What it may do was decided when it came in.
    expires_at = data["expires_at"]
    return Caller(
        identity=Identity(data["issuer"], data["subject"]),
        acting_for=data["acting_for"],
        expires_at=math.inf if expires_at is None else expires_at,
        issued_at=data["issued_at"],
        credential=data["credential"],
    )


class Entrance:
    """The way in for the connections of the process that this one replaces."""

    def __init__(
        self,
        services: GatewayServices,
        connections: set[Any],
        lease_moved: Callable[[SessionKey], Awaitable[Held]],
        new_door: Callable[[], FrontDoor],
    ) -> None:
        """Prepare.

        Args:
            services: What the gateway's parts share.
            connections: uvicorn's: HTTP connections, upgrades and relays.
            lease_moved: Returns the lease that a relay held in the other process.
            new_door: Makes the protocol of a new connection.
        """
        self._services = services
        self._connections = connections
        self._lease_moved = lease_moved
        self._new_door = new_door
        self._tasks = services.tasks

    async def take_relays(
        self,
        relays: Sequence[Mapping[str, Any]],
        files: Sequence[int],
        say_taken: Callable[[], None],
    ) -> None:
        """Go on with relays.

        Args:
            relays: What is known of them.
            files: Two descriptors for each, which are this process's to close.
            say_taken: Tells the other process so. Until then nothing is read or written here: if
                this process ends before, that one goes on as if nothing had been.
        """
        asking = [
            self._tasks.spawn(self._agent(data), name="moving:lease", is_awaited=True)
            for data in relays
        ]
        try:
            agents = await asyncio.gather(*asking)
            say_taken()
        except BaseException:
            close_all(files)
            for task in asking:
                task.add_done_callback(_release)
            raise
        await asyncio.gather(
            *(
                self._begin(data, agent, files[2 * number], files[2 * number + 1])
                for number, (data, agent) in enumerate(zip(relays, agents, strict=True))
            )
        )

    async def _begin(
        self, data: Mapping[str, Any], agent: Agent, downstream: int, upstream: int
    ) -> None:
        moved = MovedRelay(
            _leg_from(data["downstream"], downstream),
            _leg_from(data["upstream"], upstream),
            data["started_at"],
        )
        services, lookout = self._services, self._services.lookout
        # What one of the lookout's transports has yet to send can move once more.
        watching = lookout if services.carrier.is_available else None
        client, server = await asyncio.gather(
            arrive(downstream, watching), arrive(upstream, watching)
        )
        relayed = Relayed(
            self._services,
            self._connections,
            agent=agent,
            visitor=Visitor(
                caller=_caller_from(data["caller"]),
                address=data["client"],
                request_id=data["request_id"],
            ),
            place=self._services.limits.moved_place(data["place"], key_from(data["key"])),
        )
        relay = relayed.begin(client.settle(lookout), server.settle(lookout), moved)
        client.tell(relay.downstream)
        server.tell(relay.upstream)
        if self._services.admission.revocations.covers(relayed.caller):
            close_revoked(relayed)

    async def _agent(self, data: Mapping[str, Any]) -> Agent:
        key = key_from(data["key"])
        if data["is_local"]:
            return LocalAgent(await self._lease_moved(key), data["version"])
        return RemoteAgent(key)

    async def take_connection(self, data: bytes, file: int, origin: Origin | None = None) -> None:
        """Serve an HTTP connection, beginning with what was read of it.

        Args:
            data: What was read.
            file: The connection's descriptor.
            origin: Where it is from, if another process has it, which passes its bytes on.
        """
        arrival = await arrive(file)
        transport = arrival.settle(self._services.lookout)
        door = self._new_door()
        door.origin = origin
        door.connection_made(transport)
        transport.set_protocol(door)
        if data:
            door.data_received(data)
        # By now it may be the upgrade's.
        arrival.tell(cast("asyncio.Protocol", transport.get_protocol()))


def _release(asking: "asyncio.Task[Agent]") -> None:
    if not asking.cancelled() and asking.exception() is None:
        asking.result().release()
