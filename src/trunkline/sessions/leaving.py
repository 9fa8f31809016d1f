"""Passes the sessions that run here on to the process that replaces this one.

In four steps: nothing starts or stops any more (`quiet`); every session is described, and held
(`pass_on`); the other process has them all, and this one forgets them (`let_go`), or it hasn't,
and all is as it was (`take_back`). Leases may still be held here after that: their return, and
what is to be written to a session's log, is told to the successor. If that ends too early, the
next one is told which leases there still are (`look_for_another`), and `let_go` follows again.
"""

import asyncio
import base64
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from trunkline.protocol.errors import UnavailableError
from trunkline.protocol.ids import NodeId, SessionKey
from trunkline.runtimes.interface import Passed
from trunkline.sessions.gate import Gate, Phase
from trunkline.sessions.log import SessionLogs
from trunkline.sessions.slot import Slot


class Successor(Protocol):
    """The process that has taken the sessions over."""

    def lease_returned(self, key: SessionKey) -> None:
        """Count one lease less of those that were held here."""

    def event(self, home: str, reason: str, message: str) -> None:
        """Write to a session's log."""

    def warm_up(self, key: SessionKey) -> None:
        """Start a session that was made here and not started any more."""


class Leaving:
    """The way out for the sessions of this process."""

    def __init__(
        self,
        slots: dict[SessionKey, Slot],
        logs: SessionLogs,
        node: NodeId,
        start_idle_clock: Callable[[Slot], None],
    ) -> None:
        self._slots = slots
        self._logs = logs
        self._start_idle_clock = start_idle_clock
        #: The leases each had when it was described.
        self._passed: dict[SessionKey, tuple[Slot, int]] = {}
        self._events: list[tuple[str, str, str]] = []
        self.gate = Gate(node)
        #: Known once the sessions are its.
        self.successor: Successor | None = None

    async def quiet(
        self, others: Callable[[], Iterable["asyncio.Task[Any]"]], timeout_s: float
    ) -> None:
        """Let nothing start or stop any more, and wait for what is starting or stopping.

        Args:
            others: More that must be over.
            timeout_s: How long to wait; calls of sessions that don't run wait meanwhile.

        Raises:
            UnavailableError: If it took longer. Nothing is held back any more.
        """
        self.gate.phase = Phase.QUIET
        try:
            async with asyncio.timeout(timeout_s):
                while tasks := {*self._under_way(), *others()}:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            busy = ", ".join(sorted({task.get_name() for task in (*self._under_way(), *others())}))
            self.take_back()
            raise UnavailableError(
                f"this wasn't over after {timeout_s:g} s (reload_wait_s): {busy}"
            ) from None
        except BaseException:
            self.take_back()
            raise

    def _under_way(self) -> list["asyncio.Task[Any]"]:
        tasks: list[asyncio.Task[Any]] = []
        for slot in self._slots.values():
            tasks += [t for t in (slot.starting, slot.stopping) if t is not None and not t.done()]
            is_ending = slot.instance is not None and not slot.instance.is_settled
            if is_ending and slot.watching is not None and not slot.watching.done():
                tasks.append(slot.watching)
        return tasks

    def pass_on(self) -> list[Passed]:
        """Return every session that runs here, described for the successor. Call `quiet` first."""
        self.gate.phase = Phase.HELD
        self._logs.divert(lambda *event: self._events.append(event))
        loop = asyncio.get_running_loop()
        described = []
        for slot in self._slots.values():
            if slot.instance is None:
                # Somebody waits for it at the gate.
                continue
            clock = slot.idle_clock
            left_s = None if clock is None else max(clock.when() - loop.time(), 0.0)
            slot.stop_idle_clock()
            slot.wake("the platform's reload")
            passed = slot.instance.pass_on()
            self._passed[slot.key] = slot, slot.leases
            log = self._logs.of(slot.home)
            unfinished = log.unfinished
            data = {
                "key": [slot.key.project, slot.key.agent, slot.key.session_id],
                "home": slot.home,
                "version": slot.version,
                "running_since": slot.running_since,
                "leases": slot.leases,
                "idle_timeout_s": slot.idle_timeout_s,
                "suspend_after_s": slot.suspend_after_s,
                "idle_left_s": left_s,
                "unfinished": {
                    stream: base64.b64encode(rest).decode() for stream, rest in unfinished.items()
                },
                "hidden": dict(log.hidden),
                "instance": passed.data,
            }
            described.append(Passed(data, passed.files))
        return described

    def take_back(self) -> None:
        """Go on as if nothing had been passed on."""
        self.gate.phase = Phase.OPEN
        self._logs.divert(None)
        for home, reason, message in self._events:
            self._logs.of(home).event(reason, message)
        for slot, _ in self._passed.values():
            assert slot.instance is not None
            slot.instance.take_back()
        self._events.clear()
        self._passed.clear()
        for slot in self._slots.values():
            if slot.instance is not None and not slot.leases:
                self._start_idle_clock(slot)

    def let_go(self, successor: Successor) -> None:
        """Forget the sessions: the successor has them."""
        self.successor = successor
        self._logs.divert(successor.event)
        for event in self._events:
            successor.event(*event)
        self._events.clear()
        for key, (slot, leases) in self._passed.items():
            if self._slots.get(key) is slot:
                assert slot.instance is not None
                slot.end_suspension("the platform's reload")
                slot.instance.let_go()
                if slot.watching is not None:
                    slot.watching.cancel()
                del self._slots[key]
            for _ in range(leases - (slot.leases - slot.moved_leases)):
                successor.lease_returned(key)
        # Those who wait go on, and find that there is nothing here any more.
        self.gate.phase = Phase.GONE

    def look_for_another(self) -> dict[SessionKey, int]:
        """Return how many leases of each session are held here; the successor has ended."""
        self.successor = None
        self._logs.divert(lambda *event: self._events.append(event))
        for key, (slot, _) in self._passed.items():
            self._passed[key] = slot, slot.leases - slot.moved_leases
        return {key: leases for key, (_, leases) in self._passed.items()}

    def returned(self, slot: Slot) -> None:
        """Take the return of a lease while things aren't as ever."""
        if self.successor is not None and slot.key in self._passed:
            self.successor.lease_returned(slot.key)
