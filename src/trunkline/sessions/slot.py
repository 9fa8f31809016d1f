"""What is known of a session while it runs or somebody waits for it, and the right to use it."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from trunkline.protocol.ids import SessionKey, VersionId
from trunkline.runtimes.interface import Address, ExitStatus, Instance
from trunkline.sessions.live import Traffic
from trunkline.sessions.log import SessionLog
from trunkline.sessions.suspension import Sleeper, Suspension
from trunkline.store.records import VersionRecord

_LEAST_S = 0.001


class Slot:
    """One session in this process."""

    def __init__(self, key: SessionKey, home: str) -> None:
        self.key = key
        self.home = home
        self.leases: int = 0
        #: Those of the leases that another process holds by now.
        self.moved_leases: int = 0
        #: Those of the leases that are connections which know how to sleep.
        self.sleepers: dict[Hold, Sleeper] = {}
        self.suspend_after_s = 0.0
        self.suspension: Suspension | None = None
        self.suspending: asyncio.Task[None] | None = None
        self.instance: Instance | None = None
        #: An agent of its own that was started before it was anybody's, and isn't used yet.
        self.readied: Instance | None = None
        self.starting: asyncio.Task[Instance] | None = None
        self.watching: asyncio.Task[None] | None = None
        self.stopping: asyncio.Task[None] | None = None
        #: By the monotonic clock, which is the same for all of a machine's processes.
        self.running_since = 0.0
        self.idle_clock: asyncio.TimerHandle | None = None
        self.idle_timeout_s = 0.0
        self.version = VersionId("")
        #: What every lease has of the version, however often it is looked up.
        self.version_record: VersionRecord | None = None
        self.ended = Traffic()

    @property
    def is_unused(self) -> bool:
        """Whether there is nothing left to know."""
        return self.is_at_rest and not self.leases

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing of it runs, starts or stops."""
        return not (self.instance or self.starting or self.stopping)

    @property
    def tasks(self) -> "list[asyncio.Task[Any]]":
        """What is under way for it."""
        known = (self.starting, self.watching, self.stopping)
        return [task for task in known if task is not None and not task.done()]

    def use(self, version: VersionRecord, idle_timeout_s: float) -> None:
        """Count one more lease.

        Args:
            version: The session's version, which may say when it stops after its last lease.
            idle_timeout_s: When it does otherwise.
        """
        self.leases += 1
        self.stop_idle_clock()
        self.wake("a request")
        own = (version.definition.get("session_configuration") or {}).get("idle_timeout_seconds")
        self.idle_timeout_s = float(own) if own is not None else idle_timeout_s

    def keep_version(self, version: VersionRecord) -> VersionRecord:
        """Return what is kept of the session's version: what is given, if that is another."""
        kept = self.version_record
        if kept is None or (kept is not version and kept != version):
            kept = self.version_record = version
        return kept

    def wake(self, why: str) -> None:
        """Have its agent go on, if it is frozen."""
        if self.suspension is not None:
            self.suspension.wake(why)

    def end_suspension(self, why: str) -> None:
        """Have its agent go on, and freeze it no more."""
        self.wake(why)
        self.suspension = None
        if self.suspending is not None:
            self.suspending.cancel()
            self.suspending = None

    def start_idle_clock(
        self, when_over: "Callable[[Slot], None]", left_s: float | None = None
    ) -> None:
        """Count idle time, all that it has or what is left of it."""
        self.stop_idle_clock()
        delay_s = self.idle_timeout_s if left_s is None else left_s
        # uvloop makes a timer of no time something that can't tell when it is due.
        loop = asyncio.get_running_loop()
        self.idle_clock = loop.call_later(max(delay_s, _LEAST_S), when_over, self)

    def stop_idle_clock(self) -> None:
        """Don't count idle time any more."""
        if self.idle_clock is not None:
            self.idle_clock.cancel()
            self.idle_clock = None


class Hold:
    """What keeps a session's agent running. Return it when the connection is over."""

    # Each open connection has one.
    __slots__ = ("_instance", "_is_held", "_on_return", "_slot", "log")

    def __init__(
        self,
        slot: Slot,
        instance: Instance,
        log: SessionLog,
        on_return: Callable[[Slot], None],
    ) -> None:
        self._slot = slot
        self._instance = instance
        self._on_return = on_return
        self._is_held = True
        self.log = log

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

    def rests_with(self, sleeper: Sleeper) -> None:
        """Let the agent sleep while a connection of this lease has no need of it."""
        self._slot.sleepers[self] = sleeper

    def stay_awake(self, why: str) -> None:
        """Have the agent go on, if it is frozen, and freeze it no more."""
        self._slot.end_suspension(why)

    def connection_ended(self, event: Mapping[str, Any], words: str) -> None:
        """Keep how its connection went, count what went over it, and give the lease back.

        Args:
            event: What is kept.
            words: The same for the session's log.
        """
        self._slot.ended.add(event)
        self.log.connections.append(event)
        self.log.event("ConnectionClosed", words)
        self.release()

    def used_by(self, request_id: str, address: str, version: str, began_at: float) -> None:
        """Do nothing: whoever relays the connection tells of its end, in this same process."""

    def let_go(self) -> None:
        """Leave it to another process, which holds it from here on."""
        if self._is_held:
            self._slot.moved_leases += 1
            self.forget()

    def forget(self) -> None:
        """Hold it no more, and don't give it back: another process does, and is counted here."""
        self._is_held = False
        self._slot.sleepers.pop(self, None)

    def release(self) -> None:
        """Give the lease back. Twice is fine."""
        if self._is_held:
            self._is_held = False
            self._slot.sleepers.pop(self, None)
            self._on_return(self._slot)


class Lease(Hold):
    """The right to talk to a session's agent."""

    __slots__ = ("version",)

    def __init__(
        self,
        slot: Slot,
        instance: Instance,
        version: VersionRecord,
        log: SessionLog,
        on_return: Callable[[Slot], None],
    ) -> None:
        super().__init__(slot, instance, log, on_return)
        self.version = version
