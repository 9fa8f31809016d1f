"""The sessions that this process of the platform runs: started once, stopped when idle.

A session's agent is started once however many connections ask for it at the same time. Each
connection holds a :class:`Lease` while it is open; when the last one is returned the idle clock
starts. What the store says of who holds a session comes first: nothing is started before the
session is claimed there, and it is let go of only when nothing of it runs any more.
"""

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path

from trunkline.aio.tasks import TaskOwner
from trunkline.manifest.resources import (
    DEFAULT_CPU,
    DEFAULT_MEMORY,
    parse_cpu,
    parse_memory_bytes,
)
from trunkline.protocol.errors import ConflictError, SessionNotReadyError, UnavailableError
from trunkline.protocol.ids import NodeId, SessionKey
from trunkline.runtimes.interface import ExitStatus, Instance, InstanceSpec, Runtime
from trunkline.sessions.agent_secrets import AgentSecrets
from trunkline.sessions.arriving import Arriving
from trunkline.sessions.claims import insist
from trunkline.sessions.elsewhere import SessionElsewhereError
from trunkline.sessions.environment import agent_environment
from trunkline.sessions.gate import Phase
from trunkline.sessions.homes import SessionHomes
from trunkline.sessions.launches import launch_from_json
from trunkline.sessions.leaving import Leaving
from trunkline.sessions.live import SessionUse
from trunkline.sessions.log import SessionLog, SessionLogs
from trunkline.sessions.releases import Releases
from trunkline.sessions.setbacks import Setbacks
from trunkline.sessions.settings import SessionSettings
from trunkline.sessions.slot import Lease, Slot
from trunkline.sessions.suspension import Suspension, suspend_after_s
from trunkline.sessions.uses import Uses
from trunkline.store.interface import Store
from trunkline.store.records import ClaimOutcome, SessionRecord, SessionStatus, VersionRecord
from trunkline.telemetry.metrics import Metrics

_log = logging.getLogger("trunkline.sessions")
_ENDED_WELL = ExitStatus(code=0)


class SessionProcesses:
    """Every session that runs here, is being started, or is being stopped."""

    def __init__(
        self,
        settings: SessionSettings,
        *,
        store: Store,
        runtime: Runtime,
        sessions_dir: Path,
        metrics: Metrics,
        node: NodeId,
    ) -> None:
        self._settings = settings
        self._store = store
        self._runtime = runtime
        self._metrics = metrics
        self._node = node
        self._slots: dict[SessionKey, Slot] = {}
        self._tasks = TaskOwner()
        self.uses = Uses(store, settings.lifetime)
        self._releases = Releases(store, node, self.uses)
        self.setbacks = Setbacks(settings.restart_wait_max_s)
        self._is_closing = False
        #: Until when, by the monotonic clock, nobody can have taken this process for dead.
        self.surely_alive_until = math.inf
        self._is_lost = False
        self.homes = SessionHomes(sessions_dir)
        self.logs = SessionLogs(
            sessions_dir,
            settings.log_max_bytes,
            settings.connection_log_max_bytes,
            on_trim=metrics.agent_limits.labels("log").inc,
        )
        self.leaving = Leaving(self._slots, self.logs, node, self._start_idle_clock)
        self.arriving = Arriving(
            node=node,
            runtime=runtime,
            homes=self.homes,
            logs=self.logs,
            watch=self._take_over,
            on_return=self._returned,
        )
        #: Opens what of agents' environments is encrypted.
        self.secrets: AgentSecrets | None = None
        #: Where agents reach the platform; known once it listens.
        self.endpoint = ""

    def is_running(self, key: SessionKey) -> bool:
        """Tell whether the session has a process here."""
        slot = self._slots.get(key)
        return slot is not None and slot.instance is not None

    def use_of(self, record: SessionRecord) -> SessionUse | None:
        """Return what the session uses; None if it has no process here."""
        slot = self._slots.get(record.key)
        if slot is None or slot.instance is None or slot.home != record.home:
            return None
        return SessionUse(resources=slot.instance.resource_use(), ended=slot.ended)

    def refuse_if_closing(self) -> None:
        """Refuse new work when nothing is started any more.

        Raises:
            UnavailableError: If so.
        """
        if self._is_closing:
            raise UnavailableError("the platform is stopping; connect again")
        if self._is_lost:
            raise UnavailableError("this process of the platform was taken for dead; connect again")

    # Leases

    async def lease(self, record: SessionRecord, version: VersionRecord) -> Lease:
        """Return a lease on the session, starting it if need be.

        Raises:
            SessionElsewhereError: If another process of the platform runs it.
            TrunklineError: If it can't be started.
        """
        self.refuse_if_closing()
        if not self.leaving.gate.is_open:
            await self.leaving.gate.pass_use(record.key)
        slot = self._slot_of(record)
        slot.use(version, self._settings.idle_timeout_s)
        instance = slot.instance
        if instance is None or slot.stopping is not None:
            try:
                instance = await self._running(slot, record, version)
            except BaseException:
                self._returned(slot)
                raise
        return self._lease_on(slot, instance, version)

    def lease_now(self, record: SessionRecord, version: VersionRecord) -> Lease | None:
        """Return a lease on the session if it runs and nothing has to be waited for, or None."""
        is_open = self.leaving.gate.is_open and not (self._is_closing or self._is_lost)
        slot = self._slots.get(record.key) if is_open else None
        if slot is None or slot.home != record.home or slot.stopping is not None:
            return None
        if slot.instance is None:
            return None
        slot.use(version, self._settings.idle_timeout_s)
        return self._lease_on(slot, slot.instance, version)

    def _lease_on(self, slot: Slot, instance: Instance, version: VersionRecord) -> Lease:
        self.uses.note(slot.key)
        kept = slot.keep_version(version)
        return Lease(slot, instance, kept, self.logs.of(slot.home), self._returned)

    async def start_ahead(
        self, key: SessionKey, home: str, version: VersionRecord, hidden: Mapping[str, str]
    ) -> Slot:
        """Start a session that is nobody's yet, and that nobody here knows before `use_ahead`.

        Raises:
            TrunklineError: If it can't be started.
        """
        self.refuse_if_closing()
        slot = Slot(key, home)
        slot.readied = await self._start_agent(slot, version, hidden)
        return slot

    async def hidden_of(self, version: VersionRecord) -> Mapping[str, str]:
        """Return what is secret of a version's environment.

        Raises:
            TrunklineError: If it can't be opened.
        """
        return await self.secrets.open(version) if self.secrets is not None else {}

    async def use_ahead(self, slot: Slot, record: SessionRecord, version: VersionRecord) -> Lease:
        """Return a lease on a session that was started ahead, and is somebody's by now.

        If that fails, its agent is ended.

        Raises:
            TrunklineError: As for `lease`.
        """
        try:
            self._slots[slot.key] = slot
            return await self.lease(record, version)
        except BaseException:
            if slot.starting is None:
                await self.end_unused(slot)
            raise

    async def end_unused(self, slot: Slot) -> None:
        """End what was started ahead, if it isn't used; until then nothing else may be started."""
        readied, slot.readied = slot.readied, None
        if readied is not None:
            await readied.stop()

    def _slot_of(self, record: SessionRecord) -> Slot:
        slot = self._slots.get(record.key)
        if slot is not None and slot.home != record.home:
            if not slot.is_at_rest:
                # One of the two is another session that had the id before, maybe somebody else's.
                raise ConflictError(f"session {record.key.session_id!r} was deleted; try again")
            # Only connections that are about to end still know it.
            slot = None
        if slot is None:
            slot = self._slots[record.key] = Slot(record.key, record.home)
        return slot

    def _returned(self, slot: Slot) -> None:
        slot.leases -= 1
        if self.leaving.gate.phase in (Phase.HELD, Phase.GONE):
            self.leaving.returned(slot)
            self._forget_if_unused(slot)
            return
        if slot.leases or self._is_closing:
            return
        if slot.instance is not None and slot.stopping is None:
            self._start_idle_clock(slot)
            self.uses.note(slot.key)
        self._forget_if_unused(slot)

    def _forget_if_unused(self, slot: Slot) -> None:
        if slot.is_unused and self._slots.get(slot.key) is slot:
            del self._slots[slot.key]

    # Starting

    async def _running(self, slot: Slot, record: SessionRecord, version: VersionRecord) -> Instance:
        await self.leaving.gate.pass_change(slot.key)
        if slot.instance is not None and slot.stopping is None:
            return slot.instance
        if slot.starting is None:
            self.setbacks.refuse(slot.key, slot.home)
            slot.starting = self._tasks.spawn(
                self._start(slot, record, version), name=f"start:{slot.key}"
            )
        # The start belongs to all who wait: without shield(), the first client to hang up
        # would end it for the rest.
        starting = slot.starting
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if starting.cancelled() and task is not None and not task.cancelling():
                raise UnavailableError("the platform is stopping; connect again") from None
            raise

    async def _start(self, slot: Slot, record: SessionRecord, version: VersionRecord) -> Instance:
        try:
            if slot.stopping is not None:
                await asyncio.shield(slot.stopping)
            try:
                await self._claim(slot)
            except BaseException:
                await self.end_unused(slot)
                raise
            try:
                instance = await self._start_claimed(slot, record, version)
            except BaseException as exc:
                is_fault = isinstance(exc, Exception) and not isinstance(exc, UnavailableError)
                is_fault = is_fault and not self._is_closing
                await self._releases.release(
                    slot.key, SessionStatus.FAILED if is_fault else SessionStatus.IDLE
                )
                raise
        except SessionElsewhereError:
            raise
        except BaseException as exc:
            self._metrics.session_starts.labels("failed").inc()
            if isinstance(exc, SessionNotReadyError):
                raise SessionNotReadyError(
                    f"{exc}. `trunkline monitor {slot.key.agent} --session-id "
                    f"{slot.key.session_id}` shows what it printed"
                ) from exc
            raise
        else:
            self._metrics.session_starts.labels("ready").inc()
            if slot.leases == 0:
                self._start_idle_clock(slot)
            return instance
        finally:
            slot.starting = None
            self._forget_if_unused(slot)

    async def _claim(self, slot: Slot) -> None:
        key, most = slot.key, self._settings.max_running or None
        self._releases.forget(key)
        claim = await self._store.claim_session(key, self._node, home=slot.home, most=most)
        if claim.outcome is ClaimOutcome.FULL:
            self._metrics.refusals.labels("max_running").inc()
        insist(claim, key, most)

    async def _start_claimed(
        self, slot: Slot, record: SessionRecord, version: VersionRecord
    ) -> Instance:
        instance, slot.readied = slot.readied, None
        if instance is None:
            instance = await self._start_agent(slot, version, await self.hidden_of(version))
        address = {"path": instance.address.path, "port": instance.address.port}
        if not await self._store.start_session(slot.key, self._node, address):
            await instance.stop()
            raise ConflictError(f"session {slot.key.session_id!r} was deleted while it started")
        slot.version, slot.running_since = version.version, time.monotonic()
        self._begin_watch(slot, instance, self.logs.of(record.home))
        return instance

    async def _start_agent(
        self, slot: Slot, version: VersionRecord, hidden: Mapping[str, str]
    ) -> Instance:
        assert version.launch is not None, "only active versions are bound to sessions"
        slot.suspend_after_s = suspend_after_s(version.definition, self._settings.suspend_after_s)
        spec = InstanceSpec(
            key=slot.key,
            version=version.version,
            launch=launch_from_json(version.launch),
            home=self.homes.prepare(slot.home),
            environment={
                **agent_environment(slot.key, version, self._settings, self.endpoint),
                **hidden,
            },
            node=self._node,
            ready_timeout_s=self._settings.ready_timeout_s,
            stop_timeout_s=self._settings.stop_timeout_s,
            cpu=parse_cpu(version.definition.get("cpu") or DEFAULT_CPU),
            memory_bytes=parse_memory_bytes(version.definition.get("memory") or DEFAULT_MEMORY),
            may_freeze=slot.suspend_after_s > 0,
            gives_way=self.setbacks.is_failing(slot.home),
        )
        log = self.logs.of(slot.home)
        # Another process may have run it since, and written to its log.
        log.refresh()
        log.hide(hidden)
        if time.monotonic() > self.surely_alive_until:
            # It was paused since it claimed the session, or the store's answer was. Others may
            # run the session by now.
            raise UnavailableError(
                "the platform's other processes may have taken this one for dead; try again"
            )
        begun = time.monotonic()
        try:
            with self._metrics.session_start_seconds.time():
                return await self._runtime.start(spec, log)
        except SessionNotReadyError:
            self.setbacks.note(slot.home, begun, log.event)
            raise

    def _begin_watch(self, slot: Slot, instance: Instance, log: SessionLog) -> None:
        slot.instance = instance
        self._metrics.sessions_running.inc()
        slot.watching = self._tasks.spawn(
            self._watch(slot, instance, log), name=f"watch:{slot.key}"
        )
        if slot.suspend_after_s > 0:
            self._begin_suspension(slot, instance, log)

    def _begin_suspension(self, slot: Slot, instance: Instance, log: SessionLog) -> None:
        if isinstance(instance.freezer, str):
            log.event("NotFrozen", f"it stays awake while idle: {instance.freezer}")
            return
        slot.suspension = Suspension(
            slot,
            instance.freezer,
            slot.suspend_after_s,
            may_freeze=lambda: self.leaving.gate.phase is Phase.OPEN and not self._is_closing,
            tell=log.event,
            metrics=self._metrics,
        )
        slot.suspending = self._tasks.spawn(slot.suspension.run(), name=f"suspend:{slot.key}")

    def _take_over(
        self, slot: Slot, instance: Instance, log: SessionLog, idle_left_s: float | None
    ) -> None:
        self._slots[slot.key] = slot
        self._begin_watch(slot, instance, log)
        if not slot.leases:
            self._start_idle_clock(slot, idle_left_s)

    async def _watch(self, slot: Slot, instance: Instance, log: SessionLog) -> None:
        # Holding the log here keeps its file open while the agent lives.
        begun = slot.running_since
        status = await instance.wait_exited()
        self._metrics.sessions_running.dec()
        slot.end_suspension("its end")
        if slot.instance is instance:
            slot.instance = None
            slot.stop_idle_clock()
            if slot.stopping is None and not self._is_closing:
                _log.warning("session %s: its agent ended by itself, %s", slot.key, status)
                if status != _ENDED_WELL:
                    self.setbacks.note(slot.home, begun, log.event)
                # Nobody may start it before it is let go of.
                slot.stopping = self._tasks.spawn(
                    self._run_stop(slot, instance), name=f"stop:{slot.key}"
                )
        log.close()
        self._forget_if_unused(slot)

    # Stopping

    async def stop(self, key: SessionKey, *, home: str | None = None) -> None:
        """End the session's process, if it has one here.

        Args:
            key: The session.
            home: Which session of that id is meant; a later one, with another home, isn't.
        """
        slot = self._slots.get(key)
        if home is None and slot is not None:
            home = slot.home
        if home is not None:
            # Somebody sees to the session. It may have ended by itself before.
            self.setbacks.forgive(home)
        if slot is None or home != slot.home:
            return
        if slot.starting is not None:
            # Its failure is told to those who wait for it.
            await asyncio.wait((slot.starting,))
        if slot.instance is not None:
            self.logs.of(slot.home).event("Stopped", "stopped on request; the files are kept")
            self._stop(slot)
        if slot.stopping is not None:
            await asyncio.shield(slot.stopping)

    def _start_idle_clock(self, slot: Slot, left_s: float | None = None) -> None:
        slot.start_idle_clock(self._idle_is_over, left_s)

    def _idle_is_over(self, slot: Slot) -> None:
        if self.leaving.gate.phase is not Phase.OPEN:
            # The clock has run out, and stays so: whoever has the session then stops it.
            return
        slot.idle_clock = None
        if slot.instance is not None and not slot.leases:
            self.logs.of(slot.home).event(
                "Idle",
                f"no connection for {slot.idle_timeout_s:g} s (idle_timeout_s); stopping the "
                "process, keeping the files",
            )
            self._stop(slot)

    def _stop(self, slot: Slot) -> None:
        if slot.stopping is None:
            assert slot.instance is not None
            slot.stop_idle_clock()
            slot.stopping = self._tasks.spawn(
                self._run_stop(slot, slot.instance), name=f"stop:{slot.key}"
            )

    async def _run_stop(self, slot: Slot, instance: Instance) -> None:
        try:
            slot.end_suspension("its end")
            await instance.stop()
            slot.instance = None
            await self._releases.release(slot.key, SessionStatus.IDLE)
        finally:
            slot.stopping = None
            self._forget_if_unused(slot)

    async def release_late(self) -> None:
        """Tell the store what it couldn't be told before."""
        await self._releases.release_late(self._slots)

    # Being taken for dead

    async def lose_all(self) -> None:
        """End every process at once: others may have started the sessions by now.

        Until :meth:`begin_again` nothing is started.
        """
        self._is_lost = True
        self._releases.forget_all()
        for slot in self._slots.values():
            slot.stop_idle_clock()
            if slot.starting is not None:
                slot.starting.cancel()
        await self._runtime.end_leftovers(self._node)
        for slot in self._slots.values():
            if slot.instance is not None:
                self._stop(slot)
        while tasks := [task for slot in self._slots.values() for task in slot.tasks]:
            await asyncio.wait(tasks)

    def begin_again(self) -> None:
        """Start sessions again: the node is among the nodes again."""
        self._is_lost = False

    async def aclose(self) -> None:
        """Stop every process and wait for it. Twice is fine."""
        self._is_closing = True
        for slot in self._slots.values():
            slot.stop_idle_clock()
        await self._runtime.aclose()
        await self._tasks.aclose()
        await self.uses.aclose()
