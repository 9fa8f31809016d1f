"""A worker's own process, as :mod:`trunkline.platform.workers.fleet` starts it."""

import argparse
import asyncio
import base64
import functools
import importlib.metadata
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from starlette.types import Receive, Scope, Send

from trunkline import config
from trunkline.aio.channel import Channel, Message
from trunkline.aio.garbage import collect_seldom
from trunkline.aio.passing import close_all
from trunkline.aio.shared_counts import SharedCounts
from trunkline.aio.tasks import TaskOwner
from trunkline.auth.pseudonym import Pseudonyms
from trunkline.auth.rates import Rates
from trunkline.gateway.door import FrontDoor, Origin
from trunkline.gateway.first_look import first_look
from trunkline.gateway.lifetimes import Lifetimes
from trunkline.gateway.moving import Departure, Entrance
from trunkline.gateway.peers import Peers
from trunkline.gateway.routes import Projects
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.ticket_office import TicketOffice
from trunkline.gateway.worker_door import WorkerDoor
from trunkline.platform import descriptors
from trunkline.platform.access import keeping_audit, open_admission
from trunkline.platform.certificate import Certificate
from trunkline.platform.handover import Line
from trunkline.platform.inherited import die_with, inherited
from trunkline.platform.server import Server
from trunkline.platform.settings import PlatformSettings, load_settings
from trunkline.platform.workers.moving import arrive, depart, line_over, moved_words
from trunkline.platform.workers.remote import Main, RemoteErrors, RemoteSessions, RemoteStore
from trunkline.platform.workers.words import key_words
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import NodeId
from trunkline.telemetry.logs import set_up_logging
from trunkline.telemetry.metrics import Counted, Metrics

_log = logging.getLogger("trunkline.workers")
#: How often what is counted is told, in case that this process dies.
_COUNT_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What a worker is started with."""

    host: str
    state_dir: Path
    number: int
    of: int
    line: socket.socket
    listener: socket.socket
    shared: int


class _MainFirst:
    """The processes beside a worker: it may end when all of them have drained."""

    is_drained = True

    def __init__(self, main: Main) -> None:
        self._main = main
        self.may_end = asyncio.Event()

    async def serve(self) -> None:
        pass

    def stop_accepting(self) -> None:
        pass

    def drain(self) -> None:
        pass

    async def end(self) -> None:
        # Until then it accepts: who comes is told that the platform stops.
        self._main.tell("drained")
        await self.may_end.wait()


class WorkerServer(Server):
    """The server of a worker: it serves nothing but upgrades."""

    def __init__(
        self,
        services: GatewayServices,
        main: Main,
        channel: Channel,
        certificate: Certificate | None,
    ) -> None:
        self._channel = channel
        super().__init__(
            _nothing_here,
            services,
            on_ready=lambda: main.tell("serving"),
            on_drain=lambda: None,
            certificate=certificate,
        )
        # If this process alone is told to stop, they stay.
        self.has_agents = False
        self.others = self.main_first = _MainFirst(main)

    def protocol_for(self, services: GatewayServices) -> Callable[..., asyncio.Protocol]:
        door = functools.partial(WorkerDoor, pass_on=self._pass_on)
        return functools.partial(first_look, services=services, new_door=door)

    def new_door(self) -> FrontDoor:
        return WorkerDoor(
            self.config, self.server_state, {}, services=self._services, pass_on=self._pass_on
        )

    def _pass_on(self, data: bytes, file: int, origin: Origin | None) -> None:
        message = {
            "do": "connection",
            "data": base64.b64encode(data).decode(),
            "client": None if origin is None else origin.client,
        }
        self._channel.tell(message, [file])


class Worker:
    """One worker, while it runs."""

    def __init__(self, options: WorkerOptions, settings: PlatformSettings) -> None:
        self._options = options
        self._settings = settings
        self._may_serve = asyncio.Event()
        self._metrics = Metrics()
        self._told: dict[Counted, float] = {}
        self._leaves_at = 0.0
        self._channel = Channel(
            options.line,
            on_tell=self._hear,
            on_ask=self._answer,
            on_lost=_leave,
            on_late=self._take_late,
        )
        self._main = Main(self._channel)
        self._sessions = RemoteSessions(self._main)
        self._tasks = TaskOwner()
        self._services: GatewayServices
        self._server: WorkerServer

    async def run(self) -> None:
        """Take upgrades until told to stop."""
        async with AsyncExitStack() as stack:
            self._prepare(stack)
            tasks = self._tasks
            stack.push_async_callback(tasks.aclose)
            self._channel.open()
            self._main.tell("ready")
            await self._may_serve.wait()
            lifetimes = Lifetimes(self._services, RemoteStore(self._main))
            # Who was revoked is known before anybody is let in.
            await lifetimes.look()
            tasks.spawn(self._services.audit.run(), name="audit")
            tasks.spawn(lifetimes.run(), name="lifetimes")
            tasks.spawn(self._count_for_ever(), name="count")
            await self._server.serve([self._options.listener])
        self._count()
        await self._channel.flush()

    def _prepare(self, stack: AsyncExitStack) -> None:
        options, settings = self._options, self._settings
        store = RemoteStore(self._main)
        shared = SharedCounts(options.shared, columns=options.of + 1, column=options.number + 1)
        self._services = services = GatewayServices(
            settings=settings.gateway,
            projects=Projects(settings.gateway.projects),
            admission=open_admission(
                settings.auth, options.state_dir, host=options.host, keys=store, stack=stack
            ),
            pseudonyms=Pseudonyms.open(options.state_dir),
            sessions=self._sessions,
            peers=Peers(store, connect_timeout_s=settings.gateway.connect_timeout_s),
            metrics=self._metrics,
            tickets=TicketOffice(store),
            rates=Rates(settings.rates, shared),
            audit=keeping_audit(settings.auth, store, stack),
            errors=RemoteErrors(self._main),
            shared=shared,
        )
        services.limits.most = descriptors.connections_within(
            services.limits.most, descriptors.raise_to_hard_limit(), sharers=0
        )
        stack.push_async_callback(services.tasks.aclose)
        self._server = WorkerServer(
            services, self._main, self._channel, Certificate.of(settings.gateway)
        )

    def _hear(self, message: Message, files: list[int]) -> None:
        match message["do"]:
            case "serve":
                self._may_serve.set()
            case "drain" if self._may_serve.is_set():
                self._server.has_agents = True
                self._server.stop()
            case "drain":
                # It has nothing yet.
                os._exit(0)
            case "stop accepting":
                self._server.stop_accepting()
            case "depart":
                self._tasks.spawn(self._depart(line_over(files[0])), name="depart")
            case "arrive":
                self._tasks.spawn(self._arrive(line_over(files[0])), name="arrive")
            case "leave":
                self._server.stop_for_successor(self._leaves_at)
            case "end":
                self._server.main_first.may_end.set()
            case "node gone":
                self._services.peers.cut(NodeId(message["node"]))
            case _:
                close_all(files)
                _log.error("%r isn't understood", message["do"])

    async def _depart(self, line: Line) -> None:
        timeout_s = self._settings.gateway.drain_timeout_s
        if not self._leaves_at:
            self._leaves_at = asyncio.get_running_loop().time() + timeout_s
        departure = Departure(self._services, self._server.connections)
        is_whole = True
        try:
            moved, is_whole = await depart(departure, line, timeout_s)
            self._main.tell("departed", moved=moved_words(moved), is_whole=is_whole)
        finally:
            if is_whole:
                # Whatever is left finishes here, in the time it has.
                self._server.stop_for_successor(self._leaves_at)

    async def _arrive(self, line: Line) -> None:
        entrance = Entrance(
            self._services,
            self._server.connections,
            self._sessions.lease_moved,
            self._server.new_door,
        )
        await arrive(entrance, line)

    async def _answer(self, message: Message) -> Mapping[str, Any]:
        live = self._services.live
        match message["do"]:
            case "count":
                self._count()
            case "agents":
                now = await live.agents()
                return {"agents": [[*name, agent.connections] for name, agent in now.items()]}
            case "connections":
                found = await live.connections(message["project"], message["agent"])
                return {"connections": [[key_words(key), events] for key, events in found.items()]}
            case _:
                _log.error("%r isn't understood", message["do"])
        return {}

    def _take_late(self, answer: Message) -> None:
        # Whoever wanted it has left.
        if "lease" in answer:
            self._main.tell("release", lease=answer["lease"])

    async def _count_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_COUNT_EVERY_S)
            self._count()

    def _count(self) -> None:
        counted = self._metrics.counted()
        news = [
            [name, labels, value - self._told.get((name, labels), 0.0)]
            for (name, labels), value in counted.items()
            if value != self._told.get((name, labels), 0.0)
        ]
        self._told = counted
        self._main.tell(
            "counted",
            counts=news,
            connections=len(self._services.relayed),
            waiting=self._services.waiting_bytes(),
        )


def _leave() -> None:
    # The main process is gone: nothing here could go on, and the kernel is about to say so.
    os._exit(1)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("requests are served by the main process")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="trunkline worker")
    parser.add_argument("host")
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("--worker", type=int, nargs=2, metavar=("NUMBER", "OF"))
    parser.add_argument("--parent", type=int)
    parser.add_argument("--version")
    parser.add_argument("--files", type=int, nargs=3, metavar=("LINE", "LISTENER", "COUNTS"))
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if not die_with(given.parent):
        return 1
    set_up_logging()
    os.umask(0o077)
    installed = importlib.metadata.version("trunkline")
    if installed != given.version:
        _log.error(
            "trunkline %s is installed, and the platform that runs is %s; reload it "
            "(`trunkline gateway reload`)",
            installed,
            given.version,
        )
        return 1
    line, listener, counts = given.files
    os.set_inheritable(counts, False)
    number, of = given.worker
    options = WorkerOptions(
        host=given.host,
        state_dir=given.state_dir,
        number=number,
        of=of,
        line=inherited(line),
        listener=inherited(listener),
        shared=counts,
    )
    collect_seldom()
    try:
        settings = load_settings(config.environment(), given.state_dir)
        uvloop.run(_run(options, settings))
    except config.SettingsError as exc:
        for problem in exc.problems:
            sys.stderr.write(f"error: {problem}\n")
        return 2
    except TrunklineError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    return 0


async def _run(options: WorkerOptions, settings: PlatformSettings) -> None:
    await Worker(options, settings).run()


if __name__ == "__main__":
    sys.exit(main())
