"""Finds a session's place, starting it if need be, and stops it when it has been idle.

A session's process is started once however many connections ask for it at the same time.
Each connection holds a :class:`Lease` while it is open; when the last one is returned the
idle clock starts.
"""

import asyncio
import datetime as dt
import hashlib
import logging
import secrets
from pathlib import Path

from trunkline.aio.tasks import TaskOwner
from trunkline.auth.identity import Identity
from trunkline.protocol.errors import (
    AgentNotFoundError,
    ProtocolNotDeclaredError,
    SessionNotAccessibleError,
    SessionNotReadyError,
    UnavailableError,
    VersionNotReadyError,
)
from trunkline.protocol.ids import SessionId, SessionKey
from trunkline.runtimes.interface import Address, ExitStatus, Instance, InstanceSpec, Runtime
from trunkline.sessions.environment import agent_environment
from trunkline.sessions.launches import launch_from_json
from trunkline.sessions.log import SessionLog, SessionLogs
from trunkline.sessions.settings import SessionSettings
from trunkline.store.interface import Store
from trunkline.store.records import SessionRecord, SessionStatus, VersionRecord, VersionStatus
from trunkline.telemetry.metrics import Metrics

_log = logging.getLogger("trunkline.sessions")


def new_session_id() -> SessionId:
    """Return an id for a session nobody named: 32 lower-case hex digits."""
    return SessionId(secrets.token_hex(16))


class _Slot:
    """What is known of a session while it runs or somebody waits for it."""

    def __init__(self, key: SessionKey) -> None:
        self.key = key
        self.leases = 0
        self.instance: Instance | None = None
        self.starting: asyncio.Task[Instance] | None = None
        self.stopping: asyncio.Task[None] | None = None
        self.idle_clock: asyncio.TimerHandle | None = None
        self.idle_timeout_s = 0.0

    def stop_idle_clock(self) -> None:
        if self.idle_clock is not None:
            self.idle_clock.cancel()
            self.idle_clock = None


class Lease:
    """The right to talk to a session's agent. Return it when the connection is over."""

    def __init__(
        self, directory: "SessionDirectory", slot: _Slot, instance: Instance, version: VersionRecord
    ) -> None:
        self._directory = directory
        self._slot = slot
        self._instance = instance
        self._is_held = True
        self.version = version

    @property
    def key(self) -> SessionKey:
        """The session's key."""
        return self._slot.key

    @property
    def address(self) -> Address:
        """Where the session's agent listens."""
        return self._instance.address

    async def wait_exited(self) -> ExitStatus:
        """Wait for the agent's process to end."""
        return await self._instance.wait_exited()

    def release(self) -> None:
        """Give the lease back. Twice is fine."""
        if self._is_held:
            self._is_held = False
            self._directory._returned(self._slot)  # noqa: SLF001 - the directory's own half


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
    ) -> None:
        self._settings = settings
        self._store = store
        self._runtime = runtime
        self._sessions_dir = sessions_dir
        self._metrics = metrics
        self._slots: dict[SessionKey, _Slot] = {}
        self._tasks = TaskOwner()
        self._is_closing = False
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
            ProtocolNotDeclaredError: If its version doesn't declare the protocol.
            SessionNotAccessibleError: If the session is somebody else's.
            VersionNotReadyError: If no version of the agent can be started.
            SessionNotReadyError: If the agent couldn't be started.
        """
        record, version = await self._find_or_create(key, caller, protocol)
        if self._is_closing:
            raise UnavailableError("the platform is stopping; connect again")
        slot = self._slots.setdefault(key, _Slot(key))
        slot.leases += 1
        slot.stop_idle_clock()
        slot.idle_timeout_s = self._idle_timeout_of(version)
        try:
            instance = await self._running(slot, record, version)
            await self._store.touch_session(key, _now(), SessionStatus.ACTIVE)
        except BaseException:
            self._returned(slot)
            raise
        return Lease(self, slot, instance, version)

    async def _find_or_create(
        self, key: SessionKey, caller: Identity, protocol: str
    ) -> tuple[SessionRecord, VersionRecord]:
        record = await self._store.find_session(key)
        if record is None:
            version = await self._version_for_new(key)
            _check_protocol(key, version, protocol)
            now = _now()
            record = await self._store.add_session(
                SessionRecord(
                    key=key,
                    version=version.version,
                    owner=caller.owner,
                    status=SessionStatus.CREATING,
                    created_at=now,
                    last_accessed_at=now,
                    home=_home_of(key),
                )
            )
        if record.owner != caller.owner:
            raise SessionNotAccessibleError(
                f"session {key.session_id!r} isn't yours to use; sessions belong to the identity "
                "that created them"
            )
        bound = await self._store.find_version(key.project, key.agent, record.version)
        assert bound is not None, "versions with sessions are never removed"
        _check_protocol(key, bound, protocol)
        return record, bound

    async def _version_for_new(self, key: SessionKey) -> VersionRecord:
        active = await self._store.latest_version(
            key.project, key.agent, status=VersionStatus.ACTIVE
        )
        if active is not None:
            return active
        latest = await self._store.latest_version(key.project, key.agent)
        if latest is None:
            raise AgentNotFoundError(
                f"no agent {key.agent!r} in project {key.project!r}; `trunkline list` shows those "
                "that are there"
            )
        if latest.status is VersionStatus.FAILED:
            raise VersionNotReadyError(
                f"version {latest.version} of agent {key.agent!r} couldn't be built: {latest.error}"
            )
        raise VersionNotReadyError(
            f"version {latest.version} of agent {key.agent!r} is still being built; try again"
        )

    def _idle_timeout_of(self, version: VersionRecord) -> float:
        own = (version.definition.get("session_configuration") or {}).get("idle_timeout_seconds")
        return float(own) if own is not None else self._settings.idle_timeout_s

    async def _running(
        self, slot: _Slot, record: SessionRecord, version: VersionRecord
    ) -> Instance:
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

    async def _start(self, slot: _Slot, record: SessionRecord, version: VersionRecord) -> Instance:
        try:
            if slot.stopping is not None:
                await asyncio.shield(slot.stopping)
            home = self._sessions_dir / record.home / "home"
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            assert version.launch is not None, "only active versions are bound to sessions"
            spec = InstanceSpec(
                key=slot.key,
                version=version.version,
                launch=launch_from_json(version.launch),
                home=home,
                environment=agent_environment(slot.key, version, self._settings, self.endpoint),
                ready_timeout_s=self._settings.ready_timeout_s,
                stop_timeout_s=self._settings.stop_timeout_s,
            )
            log = self.logs.of(record.home)
            with self._metrics.session_start_seconds.time():
                instance = await self._runtime.start(spec, log)
            slot.instance = instance
            self._metrics.sessions_running.inc()
            self._tasks.spawn(self._watch(slot, instance, log), name=f"watch:{slot.key}")
        except Exception as exc:
            self._metrics.session_starts.labels("failed").inc()
            status = SessionStatus.IDLE if self._is_closing else SessionStatus.FAILED
            await self._store.touch_session(slot.key, _now(), status)
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

    async def _watch(self, slot: _Slot, instance: Instance, log: SessionLog) -> None:
        # Holding the log here keeps its file open while the agent lives.
        status = await instance.wait_exited()
        self._metrics.sessions_running.dec()
        if slot.instance is instance:
            slot.instance = None
            slot.stop_idle_clock()
            if slot.stopping is None and not self._is_closing:
                _log.warning("session %s: its agent ended by itself, %s", slot.key, status)
        log.close()
        await self._store.touch_session(slot.key, _now(), SessionStatus.IDLE)
        self._forget_if_unused(slot)

    def _returned(self, slot: _Slot) -> None:
        slot.leases -= 1
        if slot.leases or self._is_closing:
            return
        if slot.instance is not None and slot.stopping is None:
            self._start_idle_clock(slot)
            self._tasks.spawn(self._store.touch_session(slot.key, _now()), name=f"touch:{slot.key}")
        self._forget_if_unused(slot)

    def _start_idle_clock(self, slot: _Slot) -> None:
        slot.stop_idle_clock()
        loop = asyncio.get_running_loop()
        slot.idle_clock = loop.call_later(slot.idle_timeout_s, self._idle_is_over, slot)

    def _idle_is_over(self, slot: _Slot) -> None:
        slot.idle_clock = None
        if slot.instance is not None and not slot.leases:
            self.log_of(slot.key).event(
                "Idle",
                f"no connection for {slot.idle_timeout_s:g} s (idle_timeout_s); stopping the "
                "process, keeping the files",
            )
            self._stop(slot)

    def _stop(self, slot: _Slot) -> asyncio.Task[None]:
        if slot.stopping is None:
            assert slot.instance is not None
            slot.stopping = self._tasks.spawn(
                self._run_stop(slot, slot.instance), name=f"stop:{slot.key}"
            )
        return slot.stopping

    async def _run_stop(self, slot: _Slot, instance: Instance) -> None:
        try:
            await instance.stop()
            slot.instance = None
        finally:
            slot.stopping = None
            self._forget_if_unused(slot)

    def _forget_if_unused(self, slot: _Slot) -> None:
        is_unused = (
            not slot.leases
            and slot.instance is None
            and slot.starting is None
            and slot.stopping is None
        )
        if is_unused and self._slots.get(slot.key) is slot:
            del self._slots[slot.key]

    async def aclose(self) -> None:
        """Stop every process and wait for it. Twice is fine."""
        self._is_closing = True
        for slot in self._slots.values():
            slot.stop_idle_clock()
        await self._runtime.aclose()
        await self._tasks.aclose()
        await self._store.settle_sessions()


def _check_protocol(key: SessionKey, version: VersionRecord, protocol: str) -> None:
    if protocol not in version.protocols:
        declared = ", ".join(sorted(version.protocols)) or "none"
        raise ProtocolNotDeclaredError(
            f"version {version.version} of agent {key.agent!r} doesn't declare the protocol "
            f"{protocol}; its agent.yaml declares {declared}"
        )


def _home_of(key: SessionKey) -> str:
    # Names may be anything the contract allows, up to 256 characters and case-sensitive; a
    # directory's name is a digest of them so that every file system takes it.
    text = "\0".join((key.project, key.agent, key.session_id))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
