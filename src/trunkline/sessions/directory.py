"""Finds a session's place, starting it if need be, and stops it when it has been idle.

A session's process is started once however many connections ask for it at the same time.
Each connection holds a :class:`Lease` while it is open; when the last one is returned the
idle clock starts.
"""

import asyncio
import contextlib
import datetime as dt
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from trunkline.aio.in_use import InUse
from trunkline.aio.tasks import TaskOwner
from trunkline.auth.identity import Identity
from trunkline.protocol.errors import (
    AgentDisabledError,
    AgentNotFoundError,
    ConflictError,
    QuotaExceededError,
    SessionNotAccessibleError,
    SessionNotFoundError,
    SessionNotReadyError,
    TrunklineError,
    UnavailableError,
)
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionId, SessionKey, VersionId
from trunkline.runtimes.interface import Instance, InstanceSpec, Runtime
from trunkline.sessions.environment import agent_environment
from trunkline.sessions.home_files import HomeFiles
from trunkline.sessions.homes import SessionHomes
from trunkline.sessions.launches import launch_from_json
from trunkline.sessions.log import SessionLog, SessionLogs
from trunkline.sessions.selection import check_protocol, named_version, select_version
from trunkline.sessions.settings import SessionSettings
from trunkline.sessions.slot import Lease, Slot
from trunkline.store.interface import Store
from trunkline.store.records import (
    AgentRecord,
    ClaimOutcome,
    SessionRecord,
    SessionStatus,
    VersionRecord,
)
from trunkline.telemetry.metrics import Metrics

_log = logging.getLogger("trunkline.sessions")


def new_session_id() -> SessionId:
    """Return an id for a session nobody named: 32 lower-case hex digits."""
    return SessionId(secrets.token_hex(16))


class SessionDirectory:
    """Every session of this platform."""

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
        self._deletions: dict[SessionKey, asyncio.Task[None]] = {}
        self._files_in_use: InUse[SessionKey] = InUse()
        self._tasks = TaskOwner()
        self._is_closing = False
        self.homes = SessionHomes(sessions_dir)
        self.logs = SessionLogs(sessions_dir, settings.log_max_bytes)
        #: Where agents reach the platform; known once it listens.
        self.endpoint = ""

    def log_of(self, key: SessionKey) -> SessionLog:
        """Return a session's log."""
        return self.logs.of(_home_of(key))

    def is_running(self, key: SessionKey) -> bool:
        """Tell whether the session has a process."""
        slot = self._slots.get(key)
        return slot is not None and slot.instance is not None

    # Making and using

    async def acquire(self, key: SessionKey, caller: Identity, *, protocol: str) -> Lease:
        """Return a lease on the session, making and starting it if need be.

        Cancelling a call is safe: a start goes on for the others who wait for it, and for
        whoever comes next.

        Args:
            key: The session.
            caller: Who asks; the session's owner, or the one who becomes it.
            protocol: What the caller is about to speak.

        Raises:
            AgentNotFoundError: If there is no such agent.
            AgentDisabledError: If it takes no calls.
            ProtocolNotDeclaredError: If the protocol isn't routed.
            SessionNotAccessibleError: If the session is somebody else's.
            VersionNotReadyError: If no version of the agent can be started.
            QuotaExceededError: If as many sessions run as may.
            SessionNotReadyError: If the agent couldn't be started.
            ConflictError: If the session is being deleted.
        """
        agent = await self._enabled_agent(key)
        record = await self._find_live(key)
        if record is None:
            version = await select_version(self._store, agent)
            check_protocol(agent, version, protocol)
            record, _ = await self._add(key, caller, version)
        _check_owner(record, caller)
        version = await self._version_of(record)
        check_protocol(agent, version, protocol)
        return await self._lease(record, version)

    async def create(
        self, key: SessionKey, caller: Identity, *, version: str | None = None
    ) -> SessionRecord:
        """Make a session and begin to start it; one that is there already is returned.

        Args:
            key: The session.
            caller: Who becomes its owner.
            version: The version it gets; without one, the endpoint's rules decide.

        Raises:
            ConflictError: If it is there on another version, or is being deleted.
            TrunklineError: As for :meth:`acquire`.
        """
        agent = await self._enabled_agent(key)
        record = await self._find_live(key)
        is_new = False
        if record is None:
            chosen = (
                await select_version(self._store, agent)
                if version is None
                else await named_version(self._store, key.project, key.agent, version)
            )
            self._refuse_if_closing()
            record, is_new = await self._add(key, caller, chosen)
        _check_owner(record, caller)
        if version is not None and record.version != version:
            raise ConflictError(
                f"session {key.session_id!r} is there already, on version {record.version}; "
                "delete it first, or choose another id"
            )
        if is_new:
            self._tasks.spawn(self._warm_up(record), name=f"warm-up:{key}")
        return record

    async def _warm_up(self, record: SessionRecord) -> None:
        try:
            lease = await self._lease(record, await self._version_of(record))
        except TrunklineError as exc:
            # The log of the session and its status say so; the next caller is told.
            _log.info("session %s wasn't started ahead: %s", record.key, exc)
            await self._store.settle_session(record.key, SessionStatus.FAILED)
        else:
            lease.release()

    async def _enabled_agent(self, key: SessionKey) -> AgentRecord:
        agent = await self._store.find_agent(key.project, key.agent)
        if agent is None:
            raise AgentNotFoundError(
                f"no agent {key.agent!r} in project {key.project!r}; `trunkline list` shows those "
                "that are there"
            )
        if not agent.is_enabled:
            raise AgentDisabledError(f"agent {key.agent!r} is disabled; enable it to call it")
        return agent

    async def _find_live(self, key: SessionKey) -> SessionRecord | None:
        record = await self._store.find_session(key)
        if record is None:
            return None
        if record.status is SessionStatus.DELETING:
            raise ConflictError(f"session {key.session_id!r} is being deleted; try again")
        if record.holder is None and record.expires_at <= _now():
            await self.delete(key)
            return None
        return record

    async def _add(
        self, key: SessionKey, caller: Identity, version: VersionRecord
    ) -> tuple[SessionRecord, bool]:
        now = _now()
        return await self._store.add_session(
            SessionRecord(
                key=key,
                version=version.version,
                owner=caller.owner,
                status=SessionStatus.CREATING,
                created_at=now,
                last_accessed_at=now,
                expires_at=now + self._settings.lifetime,
                home=_home_of(key),
            )
        )

    async def _version_of(self, record: SessionRecord) -> VersionRecord:
        key = record.key
        version = await self._store.find_version(key.project, key.agent, record.version)
        if version is None:
            raise ConflictError(f"session {key.session_id!r} is being deleted with its version")
        return version

    def _refuse_if_closing(self) -> None:
        if self._is_closing:
            raise UnavailableError("the platform is stopping; connect again")

    @contextlib.asynccontextmanager
    async def files_of(self, record: SessionRecord) -> AsyncIterator[HomeFiles]:
        """Have the session's files, which aren't removed meanwhile. Counts as its use.

        Raises:
            SessionNotFoundError: If the session is gone, or going.
        """
        key = record.key
        with self._files_in_use.one(key):
            found = await self._store.find_session(key)
            # Another may have been made under the id since, by somebody else.
            is_same = found is not None and (found.owner, found.created_at) == (
                record.owner,
                record.created_at,
            )
            if found is None or not is_same or found.status is SessionStatus.DELETING:
                raise SessionNotFoundError(f"session {key.session_id!r} isn't there any more")
            await self._touch(key)
            yield HomeFiles(await asyncio.to_thread(self.homes.prepare, found.home))

    # Leases

    async def _lease(self, record: SessionRecord, version: VersionRecord) -> Lease:
        self._refuse_if_closing()
        slot = self._slots.setdefault(record.key, Slot(record.key))
        slot.leases += 1
        slot.stop_idle_clock()
        slot.idle_timeout_s = self._idle_timeout_of(version)
        try:
            instance = await self._running(slot, record, version)
            await self._touch(record.key)
        except BaseException:
            self._returned(slot)
            raise
        return Lease(slot, instance, version, self.logs.of(record.home), self._returned)

    async def _touch(self, key: SessionKey) -> None:
        now = _now()
        await self._store.touch_session(key, now, now + self._settings.lifetime)

    def _idle_timeout_of(self, version: VersionRecord) -> float:
        own = (version.definition.get("session_configuration") or {}).get("idle_timeout_seconds")
        return float(own) if own is not None else self._settings.idle_timeout_s

    def _returned(self, slot: Slot) -> None:
        slot.leases -= 1
        if slot.leases or self._is_closing:
            return
        if slot.instance is not None and slot.stopping is None:
            self._start_idle_clock(slot)
            self._tasks.spawn(self._touch(slot.key), name=f"touch:{slot.key}")
        self._forget_if_unused(slot)

    def _forget_if_unused(self, slot: Slot) -> None:
        if slot.is_unused and self._slots.get(slot.key) is slot:
            del self._slots[slot.key]

    # Starting

    async def _running(self, slot: Slot, record: SessionRecord, version: VersionRecord) -> Instance:
        if slot.instance is not None and slot.stopping is None:
            return slot.instance
        if slot.starting is None:
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
            await self._claim(slot.key)
            try:
                instance = await self._start_claimed(slot, record, version)
            except BaseException as exc:
                is_fault = isinstance(exc, Exception) and not self._is_closing
                await self._release(slot, SessionStatus.FAILED if is_fault else SessionStatus.IDLE)
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

    async def _claim(self, key: SessionKey) -> None:
        most = self._settings.max_running or None
        claim = await self._store.claim_session(key, self._node, most=most)
        match claim.outcome:
            case ClaimOutcome.OURS:
                return
            case ClaimOutcome.GONE:
                raise ConflictError(f"session {key.session_id!r} is being deleted; try again")
            case ClaimOutcome.FULL:
                self._metrics.refusals.labels("max_running").inc()
                raise QuotaExceededError(
                    f"{most} sessions of project {key.project!r} run, and no more may "
                    "(TRUNKLINE_SESSIONS_MAX_RUNNING); stop some, or try again later"
                )
            case ClaimOutcome.ELSEWHERE:
                raise UnavailableError(
                    f"session {key.session_id!r} is run by another process of the platform"
                )

    async def _start_claimed(
        self, slot: Slot, record: SessionRecord, version: VersionRecord
    ) -> Instance:
        assert version.launch is not None, "only active versions are bound to sessions"
        spec = InstanceSpec(
            key=slot.key,
            version=version.version,
            launch=launch_from_json(version.launch),
            home=self.homes.prepare(record.home),
            environment=agent_environment(slot.key, version, self._settings, self.endpoint),
            node=self._node,
            ready_timeout_s=self._settings.ready_timeout_s,
            stop_timeout_s=self._settings.stop_timeout_s,
        )
        log = self.logs.of(record.home)
        with self._metrics.session_start_seconds.time():
            instance = await self._runtime.start(spec, log)
        address = {"path": instance.address.path, "port": instance.address.port}
        if not await self._store.start_session(slot.key, self._node, address):
            await instance.stop()
            raise ConflictError(f"session {slot.key.session_id!r} was deleted while it started")
        slot.instance = instance
        self._metrics.sessions_running.inc()
        self._tasks.spawn(self._watch(slot, instance, log), name=f"watch:{slot.key}")
        return instance

    async def _watch(self, slot: Slot, instance: Instance, log: SessionLog) -> None:
        # Holding the log here keeps its file open while the agent lives.
        status = await instance.wait_exited()
        self._metrics.sessions_running.dec()
        if slot.instance is instance:
            slot.instance = None
            slot.stop_idle_clock()
            if slot.stopping is None and not self._is_closing:
                _log.warning("session %s: its agent ended by itself, %s", slot.key, status)
                # Nobody may start it before it is let go of.
                slot.stopping = self._tasks.spawn(
                    self._run_stop(slot, instance), name=f"stop:{slot.key}"
                )
        log.close()
        self._forget_if_unused(slot)

    # Stopping

    async def stop(self, key: SessionKey) -> None:
        """End the session's process, and keep the session and its files."""
        slot = self._slots.get(key)
        if slot is None:
            return
        if slot.starting is not None:
            # Its failure is told to those who wait for it.
            await asyncio.wait((slot.starting,))
        if slot.instance is not None:
            self.log_of(key).event("Stopped", "stopped on request; the files are kept")
            self._stop(slot)
        if slot.stopping is not None:
            await asyncio.shield(slot.stopping)

    async def delete(self, key: SessionKey) -> None:
        """End the session's process and remove the session and its files. Twice is fine."""
        record = await self._store.mark_session_deleting(key)
        if record is not None:
            await self.finish_deletion(record)

    async def finish_deletion(self, record: SessionRecord) -> None:
        """Do what is left to do for a session that is marked as being deleted."""
        task = self._deletions.get(record.key)
        if task is None:
            task = self._tasks.spawn(
                self._delete_marked(record), name=f"delete:{record.key}", is_awaited=True
            )
            self._deletions[record.key] = task
            task.add_done_callback(lambda _: self._deletions.pop(record.key, None))
        await asyncio.shield(task)

    async def _delete_marked(self, record: SessionRecord) -> None:
        await self.stop(record.key)
        await self._files_in_use.wait_unused(record.key)
        self.logs.discard(record.home)
        await asyncio.to_thread(self.homes.remove, record.home)
        await self._store.remove_session(record)

    async def finish_deletions(
        self, project: ProjectName, agent: AgentName, version: VersionId | None = None
    ) -> None:
        """Finish deleting the marked sessions of an agent, or of one of its versions."""
        for record in await self._store.deleting_sessions(project, agent, version):
            await self.finish_deletion(record)

    def _start_idle_clock(self, slot: Slot) -> None:
        slot.stop_idle_clock()
        loop = asyncio.get_running_loop()
        slot.idle_clock = loop.call_later(slot.idle_timeout_s, self._idle_is_over, slot)

    def _idle_is_over(self, slot: Slot) -> None:
        slot.idle_clock = None
        if slot.instance is not None and not slot.leases:
            self.log_of(slot.key).event(
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
            await instance.stop()
            slot.instance = None
            await self._release(slot, SessionStatus.IDLE)
        finally:
            slot.stopping = None
            self._forget_if_unused(slot)

    async def _release(self, slot: Slot, status: SessionStatus) -> None:
        await self._store.release_session(slot.key, self._node, _now(), status)

    async def aclose(self) -> None:
        """Stop every process and wait for it. Twice is fine."""
        self._is_closing = True
        for slot in self._slots.values():
            slot.stop_idle_clock()
        await self._runtime.aclose()
        await self._tasks.aclose()
        await self._store.remove_node(self._node)


def _check_owner(record: SessionRecord, caller: Identity) -> None:
    if record.owner != caller.owner:
        raise SessionNotAccessibleError(
            f"session {record.key.session_id!r} isn't yours to use; sessions belong to the "
            "identity that created them"
        )


def _home_of(key: SessionKey) -> str:
    # Names may be anything the contract allows, up to 256 characters and case-sensitive; a
    # directory's name is a digest of them so that every file system takes it.
    text = "\0".join((key.project, key.agent, key.session_id))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
