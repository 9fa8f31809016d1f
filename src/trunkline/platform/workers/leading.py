"""Puts the workers together with what the main process has."""

import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from trunkline import config
from trunkline.aio.shared_counts import SharedCounts
from trunkline.gateway.moving import Entrance
from trunkline.gateway.services import GatewayServices
from trunkline.platform.handover import ReloadFailedError
from trunkline.platform.keeper import can_keep
from trunkline.platform.server import Server, listen, listen_often
from trunkline.platform.workers.desk import DeskServices
from trunkline.platform.workers.fleet import Fleet, FleetOptions
from trunkline.protocol.ids import NodeId
from trunkline.sessions.directory import SessionDirectory
from trunkline.sessions.upkeep import Upkeep
from trunkline.store.interface import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Led:
    """What has to do with workers."""

    gateway: GatewayServices
    sessions: SessionDirectory
    store: Store
    upkeep: Upkeep
    server: Server
    entrance: Entrance


@dataclass(frozen=True, slots=True)
class Entry:
    """Where connections come in.

    Attributes:
        listeners: A socket for each process that accepts them.
        shared: What these processes count in; None if it is this one alone.
    """

    listeners: list[socket.socket]
    shared: SharedCounts | None

    @property
    def port(self) -> int:
        """The port."""
        number: int = self.listeners[0].getsockname()[1]
        return number


def open_entry(
    host: str, port: int, workers: int, *, given: list[socket.socket] | None, stack: AsyncExitStack
) -> Entry:
    """Return where connections come in; ``stack`` closes it.

    Args:
        host: The address.
        port: The port; 0 takes a free one.
        workers: How many processes accept.
        given: The sockets of the process that this one replaces.
        stack: Closes them.

    Raises:
        ListenError: If the address can't be listened on.
        ReloadFailedError: If others were given than are needed.
        SettingsError: If there can only be one here.
    """
    if given is not None and len(given) != workers:
        raise ReloadFailedError(
            f"the gateway has {len(given)} workers, and {workers} are wanted; restart the "
            "platform to change how many"
        )
    if workers > 1 and not can_keep():
        raise config.SettingsError(["TRUNKLINE_GATEWAY_WORKERS: more than 1 takes Linux"])
    if given is not None:
        listeners = given
    else:
        listeners = listen_often(host, port, workers) if workers > 1 else [listen(host, port)]
    for listener in listeners:
        # Whoever accepts takes what is there, and must not wait for more. Of all processes that
        # have the socket open each can change that for all, and `dup` sets what its object says.
        listener.setblocking(False)
        stack.callback(listener.close)
    return Entry(listeners, SharedCounts.made(workers + 1) if workers > 1 else None)


async def lead(
    entry: Entry,
    *,
    host: str,
    state_dir: Path,
    parts: Led,
    stack: AsyncExitStack,
) -> Fleet | None:
    """Start the workers, which don't accept yet; ``stack`` ends them. None if there are none.

    Raises:
        WorkerFailedError: If one can't be started.
    """
    if entry.shared is None:
        return None
    gateway, server = parts.gateway, parts.server
    fleet = Fleet(
        FleetOptions(
            host=host,
            state_dir=state_dir,
            listeners=entry.listeners,
            shared=entry.shared,
            drain_timeout_s=gateway.settings.drain_timeout_s,
        ),
        DeskServices(
            settings=gateway.settings,
            sessions=parts.sessions,
            store=parts.store,
            metrics=gateway.metrics,
            errors=gateway.errors,
            take_connection=parts.entrance.take_connection,
        ),
    )

    async def end() -> None:
        await fleet.aclose(is_urgent=server.force_exit)

    def cut(node: NodeId) -> None:
        gateway.peers.cut(node)
        fleet.node_gone(node)

    parts.upkeep.on_gone = cut
    server.others = fleet
    gateway.live.others.append(fleet)
    stack.push_async_callback(end)
    await fleet.start()
    return fleet
