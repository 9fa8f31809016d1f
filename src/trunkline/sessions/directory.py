"""Which sessions there are, on which version, whose they are; made, used and deleted.

Which of them run here is :mod:`trunkline.sessions.processes`' to know.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from trunkline.aio.in_use import InUse
from trunkline.aio.tasks import TaskOwner
from trunkline.auth.caller import Caller
from trunkline.auth.rates import Rate
from trunkline.protocol.errors import (
    ConflictError,
    QuotaExceededError,
    SessionNotFoundError,
    TrunklineError,
)
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionId, SessionKey, VersionId
from trunkline.runtimes.interface import Runtime
from trunkline.sessions.agent_secrets import AgentSecrets
from trunkline.sessions.elsewhere import SessionElsewhereError
from trunkline.sessions.gate import Phase
from trunkline.sessions.home_files import HomeFiles
from trunkline.sessions.homes import new_home
from trunkline.sessions.live import SessionUse
from trunkline.sessions.ownership import not_accessible
from trunkline.sessions.processes import SessionProcesses
from trunkline.sessions.ready import ReadySessions
from trunkline.sessions.selection import (
    check_protocol,
    enabled,
    is_routed,
    named_version,
    select_version,
)
from trunkline.sessions.settings import SessionSettings
from trunkline.sessions.slot import Lease
from trunkline.store.interface import Store
from trunkline.store.records import (
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
        self._node = node
        #: How often an owner may make one.
        self.rate: Rate | None = None
        #: By the sessions' homes: an id may be given again.
        self._deletions: dict[str, asyncio.Task[None]] = {}
        self._files_in_use: InUse[SessionKey] = InUse()
        self._tasks = TaskOwner()
        self._processes = SessionProcesses(
            settings,
            store=store,
            runtime=runtime,
            sessions_dir=sessions_dir,
            metrics=metrics,
            node=node,
        )
        #: Those that are nobody's yet.
        self.ready = ReadySessions(
            settings,
            store=store,
            processes=self._processes,
            metrics=metrics,
            node=node,
            new_place=_new_place,
        )
        self.leaving = self._processes.leaving
        self.arriving = self._processes.arriving
        self.setbacks = self._processes.setbacks
        self.homes = self._processes.homes
        self.logs = self._processes.logs

    def set_endpoint(self, url: str) -> None:
        """Say where agents reach the platform, once it listens."""
        self._processes.endpoint = url

    def use_secrets(self, secrets: AgentSecrets) -> None:
        """Say who opens what of agents' environments is encrypted."""
        self._processes.secrets = secrets

    def is_running(self, key: SessionKey) -> bool:
        """Tell whether the session has a process here."""
        return self._processes.is_running(key)

    def use_of(self, record: SessionRecord) -> SessionUse | None:
        """Return what the session uses; None if it has no process here."""
        return self._processes.use_of(record)

    @property
    def is_passed_on(self) -> bool:
        """Whether another process has taken this one's place."""
        return self.leaving.gate.phase is Phase.GONE

    def refuse_elsewhere(self, record: SessionRecord) -> None:
        """Refuse a session that another process of the platform runs.

        Raises:
            SessionElsewhereError: Naming that one.
        """
        holder = record.holder
        if holder is not None and (holder != self._node or self.is_passed_on):
            raise SessionElsewhereError(record.key, holder)

    # Making and using

    async def acquire(
        self, key: SessionKey, caller: Caller, *, protocol: str, is_named: bool = True
    ) -> Lease:
        """Return a lease on the session, making and starting it if need be.

        Cancelling a call is safe: a start goes on for the others who wait for it, and for
        whoever comes next.

        Args:
            key: The session.
            caller: Who asks: for the session's owner, or for the one who becomes it.
            protocol: What the caller is about to speak.
            is_named: Whether the caller has named the session. If not, the lease may be on
                another one that was ready.

        Raises:
            AgentNotFoundError: If there is no such agent.
            AgentDisabledError: If it takes no calls.
            ProtocolNotDeclaredError: If the protocol isn't routed.
            SessionNotAccessibleError: If the session is somebody else's.
            VersionNotReadyError: If no version of the agent can be started.
            QuotaExceededError: If as many sessions run as may.
            SessionNotReadyError: If the agent couldn't be started.
            ConflictError: If the session is being deleted.
            SessionElsewhereError: If another process of the platform runs it.
        """
        called = await self._store.find_called(key)
        agent = enabled(called.agent, key)
        owner = caller.owner_of(agent.endpoint)
        record, version = called.session, called.version
        # What runs somewhere is live, whoever's it is.
        if record is None or record.holder is None or record.status is SessionStatus.DELETING:
            record = await self._live(record, owner)
        if record is None:
            version = await select_version(self._store, agent)
            check_protocol(agent, version, protocol)
            self._count_new(owner)
            if not is_named and (lease := await self._lease_ready(owner, version)) is not None:
                return lease
            record, _ = await self._add(key, owner, version)
        _check_owner(record, owner)
        self.refuse_elsewhere(record)
        if version is None or version.version != record.version:
            version = await self._version_of(record)
        check_protocol(agent, version, protocol)
        lease = await self._processes.lease(record, version)
        if not is_named:
            self.ready.refill(version)
        return lease

    def acquire_now(self, key: SessionKey, caller: Caller, *, protocol: str) -> Lease | None:
        """Return a lease on a session that runs here, if nothing has to be waited for.

        None if something has to be, or if it can't be had: `acquire` says why.
        """
        called = self._store.find_called_now(key)
        if called is None:
            return None
        agent, record, version = called.agent, called.session, called.version
        if agent is None or record is None or version is None or not agent.is_enabled:
            return None
        if (
            record.holder != self._node
            or record.status is SessionStatus.DELETING
            or record.version != version.version
            or not is_routed(agent, version, protocol)
            or record.owner != caller.owner_of(agent.endpoint)
        ):
            return None
        return self._processes.lease_now(record, version)

    async def _lease_ready(self, owner: str, version: VersionRecord) -> Lease | None:
        """Return a lease on a session that was ready, and is the owner's from here on."""
        slot = await self.ready.take(version)
        if slot is None:
            return None
        try:
            record, is_new = await self._add(slot.key, owner, version, home=slot.home)
        except BaseException:
            await self.ready.discard(slot)
            raise
        if not is_new:
            # Somebody has named one like it.
            await self.ready.discard(slot)
            return None
        try:
            lease = await self._processes.use_ahead(slot, record, version)
        except QuotaExceededError:
            self.ready.rest(version)
            raise
        self.ready.refill(version)
        return lease

    async def create(
        self,
        key: SessionKey,
        caller: Caller,
        *,
        version: str | None = None,
        is_named: bool = True,
    ) -> SessionRecord:
        """Make a session and begin to start it; one that is there already is returned.

        Args:
            key: The session.
            caller: Who asks: for the one who becomes its owner.
            version: The version it gets; without one, the endpoint's rules decide.
            is_named: Whether the caller has named the session. If not, another one that was ready
                may be returned.

        Raises:
            ConflictError: If it is there on another version, or is being deleted.
            TrunklineError: As for :meth:`acquire`.
        """
        called = await self._store.find_called(key)
        agent = enabled(called.agent, key)
        owner = caller.owner_of(agent.endpoint)
        record = await self._live(called.session, owner)
        is_new = False
        if record is None:
            chosen = (
                await select_version(self._store, agent)
                if version is None
                else await named_version(self._store, key.project, key.agent, version)
            )
            self._processes.refuse_if_closing()
            self._count_new(owner)
            if not is_named and (lease := await self._lease_ready(owner, chosen)) is not None:
                lease.release()
                found = await self._store.find_session(lease.key)
                if found is not None:
                    return found
            record, is_new = await self._add(key, owner, chosen)
        _check_owner(record, owner)
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
            lease = await self._processes.lease(record, await self._version_of(record))
        except SessionElsewhereError:
            # It was called at once, and where it was called it was started. Or nothing starts
            # here any more.
            if self.leaving.successor is not None:
                self.leaving.successor.warm_up(record.key)
        except TrunklineError as exc:
            # The log of the session and its status say so; the next caller is told.
            _log.info("session %s wasn't started ahead: %s", record.key, exc)
            await self._store.settle_session(record.key, SessionStatus.FAILED)
        else:
            lease.release()

    async def _live(self, record: SessionRecord | None, owner: str) -> SessionRecord | None:
        if record is None:
            return None
        key = record.key
        if record.status is SessionStatus.DELETING:
            _check_owner(record, owner)
            raise ConflictError(f"session {key.session_id!r} is being deleted; try again")
        if record.holder is None and record.expires_at <= _now():
            marked = await self._store.mark_session_deleting(
                key, home=record.home, expired_at=_now()
            )
            if marked is None:
                # Somebody came first: it is used again, or there is another one by now.
                return await self._live(await self._store.find_session(key), owner)
            await self.finish_deletion(marked)
            return None
        return record

    def _count_new(self, owner: str) -> None:
        if self.rate is not None:
            self.rate.take(owner)

    async def _add(
        self, key: SessionKey, owner: str, version: VersionRecord, home: str | None = None
    ) -> tuple[SessionRecord, bool]:
        now = _now()
        return await self._store.add_session(
            SessionRecord(
                key=key,
                version=version.version,
                owner=owner,
                status=SessionStatus.CREATING,
                created_at=now,
                last_accessed_at=now,
                expires_at=now + self._settings.lifetime,
                home=home or new_home(key),
            )
        )

    async def _version_of(self, record: SessionRecord) -> VersionRecord:
        key = record.key
        version = await self._store.find_version(key.project, key.agent, record.version)
        if version is None:
            raise ConflictError(f"session {key.session_id!r} is being deleted with its version")
        return version

    @contextlib.asynccontextmanager
    async def files_of(self, record: SessionRecord) -> AsyncIterator[HomeFiles]:
        """Have the session's files, which aren't removed meanwhile. Counts as its use.

        Raises:
            SessionNotFoundError: If the session is gone, or going.
        """
        key = record.key
        with self._files_in_use.one(key):
            await self._refuse_gone(record)
            self._processes.uses.note(key)
            await self._processes.uses.tell()
            is_made = not self.homes.path(record.home).exists()
            path = await asyncio.to_thread(self.homes.prepare, record.home)
            if is_made:
                await self._unmake_if_gone(record)
            yield HomeFiles(path)

    async def _refuse_gone(self, record: SessionRecord) -> None:
        found = await self._store.find_session(record.key)
        # Another may have been made under the id since, by somebody else.
        is_same = found is not None and found.home == record.home
        if found is None or not is_same or found.status is SessionStatus.DELETING:
            raise SessionNotFoundError(f"session {record.key.session_id!r} isn't there any more")

    async def _unmake_if_gone(self, record: SessionRecord) -> None:
        # Another process may have removed the session just before its home was made here, and
        # nobody would remove that.
        try:
            await self._refuse_gone(record)
        except SessionNotFoundError:
            await asyncio.to_thread(self.homes.remove, record.home)
            raise

    # Stopping and deleting

    async def stop(self, key: SessionKey, *, home: str | None = None) -> None:
        """End the session's process here, and keep the session and its files.

        Args:
            key: The session.
            home: Which session of that id is meant; a later one, with another home, isn't.

        Raises:
            SessionElsewhereError: If another process has taken this one's place.
        """
        await self.leaving.gate.pass_change(key)
        await self._processes.stop(key, home=home)

    async def delete(self, record: SessionRecord) -> None:
        """End the session's process and remove the session and its files. Twice is fine.

        A later session of the same id isn't meant.

        Raises:
            SessionElsewhereError: If another process has taken this one's place.
        """
        await self.leaving.gate.pass_change(record.key)
        marked = await self._store.mark_session_deleting(record.key, home=record.home)
        if marked is not None:
            await self.finish_deletion(marked)

    async def finish_deletion(self, record: SessionRecord) -> None:
        """Do what is left to do for a session that is marked as being deleted.

        Raises:
            SessionElsewhereError: If another process has taken this one's place.
        """
        await self.leaving.gate.pass_change(record.key)
        task = self._deletions.get(record.home)
        if task is None:
            task = self._tasks.spawn(
                self._delete_marked(record), name=f"delete:{record.key}", is_awaited=True
            )
            self._deletions[record.home] = task
            task.add_done_callback(lambda _: self._deletions.pop(record.home, None))
        await asyncio.shield(task)

    async def _delete_marked(self, record: SessionRecord) -> None:
        await self._processes.stop(record.key, home=record.home)
        await self._let_go_elsewhere(record)
        await self._files_in_use.wait_unused(record.key)
        self.logs.discard(record.home)
        await asyncio.to_thread(self.homes.remove, record.home)
        await self._store.remove_session(record)

    async def _let_go_elsewhere(self, record: SessionRecord) -> None:
        # Whoever runs it finds the mark at its next look and does all of this itself, or dies.
        while True:
            found = await self._store.find_session(record.key)
            if found is None or found.home != record.home or found.holder in (None, self._node):
                return
            await asyncio.sleep(self._settings.upkeep_interval_s / 4)

    async def finish_deletions(
        self, project: ProjectName, agent: AgentName, version: VersionId | None = None
    ) -> None:
        """Finish deleting the marked sessions of an agent, or of one of its versions."""
        await self.ready.drop(project, agent, version)
        for record in await self._store.deleting_sessions(project, agent, version):
            await self.finish_deletion(record)

    # Being replaced

    async def quiet(self, timeout_s: float) -> None:
        """Let nothing start or stop any more, and wait for what is starting or stopping.

        Raises:
            UnavailableError: If that takes longer. Nothing is held back any more then.
        """
        self.ready.drop_all()
        # What is still written to their logs would be passed on, to make these again.
        await self.leaving.quiet(lambda: (*self._deletions.values(), *self.ready.lives), timeout_s)

    async def warm_up(self, key: SessionKey) -> None:
        """Start a session that was made, and is to be started before its first call."""
        record = await self._store.find_session(key)
        if record is not None and record.status is SessionStatus.CREATING:
            self._tasks.spawn(self._warm_up(record), name=f"warm-up:{key}")

    def vouch(self, until: float) -> None:
        """Say until when, by the monotonic clock, nobody can take this node for dead."""
        self._processes.surely_alive_until = until

    async def lose_all(self) -> None:
        """End every process at once: this node was taken for dead."""
        self.ready.drop_all()
        await self._processes.lose_all()

    def begin_again(self) -> None:
        """Start sessions again: the node is among the nodes again."""
        self._processes.begin_again()

    async def release_late(self) -> None:
        """Tell the store what it couldn't be told when sessions stopped."""
        await self._processes.release_late()

    async def aclose(self) -> None:
        """Stop every process and wait for it. Twice is fine."""
        # At the same time: each gives its agents a while.
        await asyncio.gather(self.ready.aclose(), self._processes.aclose())
        await self._tasks.aclose()


def _check_owner(record: SessionRecord, owner: str) -> None:
    if record.owner != owner:
        raise not_accessible(record.key)


def _new_place(project: ProjectName, agent: AgentName) -> tuple[SessionKey, str]:
    key = SessionKey(project, agent, new_session_id())
    return key, new_home(key)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
