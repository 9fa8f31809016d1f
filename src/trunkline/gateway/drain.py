"""Ends what is open in good order when the platform is told to stop.

Agents are told first, so that a voice can finish its sentence. A connection on which nothing
goes either way is closed at once; one that is in use when it falls quiet, and in any case early
enough that its close handshake fits into the time there is.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from trunkline.gateway import upstream
from trunkline.gateway.relayed import Relayed
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.upgrade import Upgrade
from trunkline.runtimes.interface import Address

_log = logging.getLogger("trunkline.gateway")
_TICK_S = 0.05
#: So many agents are told until their answers are taken, and who has fallen quiet is told.
_AGENTS_AT_ONCE = 250
_TELL_TIMEOUT_S = 1.0
_TOLD_AT_ONCE = 64
#: The part of the time that close handshakes get.
_FOR_CLOSING = 0.2


class Drain:
    """One drain of one gateway."""

    def __init__(
        self,
        services: GatewayServices,
        connections: Iterable[object],
        *,
        is_quiet: Callable[[], bool],
        tells_agents: bool = True,
    ) -> None:
        """Prepare it.

        Args:
            services: What there is to drain.
            connections: The server's connections, upgrades under way among them.
            is_quiet: Tells whether no HTTP request is being answered.
            tells_agents: Whether agents end, too, and are told.
        """
        settings = services.settings
        self._services = services
        self._connections = connections
        self._is_quiet = is_quiet
        self._tells_agents = tells_agents
        self._deadline = time.monotonic() + settings.drain_timeout_s
        self._last_call = self._deadline - min(
            settings.close_timeout_s, settings.drain_timeout_s * _FOR_CLOSING
        )
        #: Since when an agent knows, by its address.
        self._told_at: dict[Address, float] = {}
        #: When each connection is to be looked at again; one that is closed, never. With thousands
        #: of them a look at each takes longer than there is between two.
        self._due_at: dict[Relayed, float] = {}

    @property
    def left_s(self) -> float:
        """The seconds that are left."""
        return max(self._deadline - time.monotonic(), 0.0)

    async def run(self) -> None:
        """Drain; return when nothing is open any more, or the time is over."""
        services = self._services
        services.draining.set()
        for connection in tuple(self._connections):
            if isinstance(connection, Upgrade):
                connection.shutdown()
        if services.relayed:
            _log.info("draining: %d connections are open", len(services.relayed))
            if self._tells_agents:
                await self._tell_agents()
        await self._close_all()
        for relayed in tuple(services.relayed):
            # Who hasn't heard of it yet does now: late is better than never.
            relayed.relay.drain()
            relayed.relay.abort()

    async def _close_all(self) -> None:
        """Close connections, clients first: an agent's end may take many times as long.

        Where processors are short, the agents that have been told would hold up what tells the
        other clients.
        """
        agents: deque[Relayed] = deque()
        while self.left_s and (self._services.relayed or not self._is_quiet()):
            # In one go, at 50 µs each: who is told answers, and taking the answers costs six times
            # as much. Where others want the processors, too, that would be before the rest is told.
            for relayed in self._to_close(time.monotonic()):
                relayed.relay.drain(client_first=True)
                agents.append(relayed)
            for _ in range(min(len(agents), _AGENTS_AT_ONCE)):
                agents.popleft().relay.drain()
            await asyncio.sleep(0 if agents else _TICK_S)

    def _to_close(self, now: float) -> Sequence[Relayed]:
        """Return those that are to be closed now, and weren't before."""
        is_over, due_at = now >= self._last_call, self._due_at
        found = []
        for relayed in self._services.relayed:
            due = due_at.get(relayed, 0.0)
            if due > now and not (is_over and due < math.inf):
                continue
            left_s = 0.0 if is_over else self._until_idle_s(relayed, now)
            if left_s > 0:
                due_at[relayed] = now + left_s
            else:
                due_at[relayed] = math.inf
                found.append(relayed)
        return found

    def _until_idle_s(self, relayed: Relayed, now: float) -> float:
        """Return how long nothing may go over it until it counts as idle."""
        # An agent that was told something may want to say something, too.
        address = relayed.agent.address
        told_at = self._told_at.get(address, 0.0) if address is not None else 0.0
        quiet_s = min(relayed.relay.quiet_s(now), now - told_at)
        return self._services.settings.drain_quiet_s - quiet_s

    async def _tell_agents(self) -> None:
        room = asyncio.Semaphore(_TOLD_AT_ONCE)

        async def tell(address: Address) -> None:
            async with room:
                if await upstream.tell_draining(address, _TELL_TIMEOUT_S):
                    self._told_at[address] = time.monotonic()

        for relayed in self._services.relayed:
            relayed.agent.stay_awake("the platform's drain")
        # Only trunkline's own hosts listen on a socket, and only they know what this means.
        addresses = {
            address
            for relayed in self._services.relayed
            if (address := relayed.agent.address) is not None and address.path is not None
        }
        await asyncio.gather(*(tell(address) for address in addresses))
