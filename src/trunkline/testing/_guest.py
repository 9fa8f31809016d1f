"""An event loop that runs as a guest on the test's own, with a clock of its own.

The agent's loop is a stock asyncio loop, so everything in the agent that asks it for the time
follows the clock: ``asyncio.sleep``, ``asyncio.timeout``, ``call_later``, and all timers of the
host. It runs in the test's thread, in turns: whenever something is ready on it, the test's loop
calls it, and it runs until it has nothing to do but wait. So the test's loop may be of any kind,
and what the test and the agent share (an ``asyncio.Event``, a fake) works on both sides.
"""

import asyncio
import selectors
import time
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

from trunkline.testing._errors import RestlessError
from trunkline.testing._where import waits_at

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

#: What asyncio takes for the same moment.
_RESOLUTION_S: Final = time.get_clock_info("monotonic").resolution
#: Not 0, so that nobody's "has it happened yet" is taken in by a time that is false.
_BEGINNING_S: Final = 1000.0
#: After so many turns in a row the test's own tasks get theirs.
_TURNS: Final = 200
#: How often both sides must find nothing to do before all is quiet.
_QUIET_ROUNDS: Final = 2


class Clock:
    """The agent's time. It stands still until it is moved, or runs with the world's."""

    def __init__(self, *, runs: bool) -> None:
        self.runs = runs
        self._began = time.monotonic()
        self._skipped = 0.0

    @property
    def elapsed_s(self) -> float:
        """How much time has passed for the agent since it was started."""
        running = time.monotonic() - self._began if self.runs else 0.0
        return self._skipped + running

    def time(self) -> float:
        """Return what the agent's event loop takes for the time."""
        return _BEGINNING_S + self.elapsed_s

    def move_to(self, when: float) -> None:
        """Let time pass until ``when``; it never goes back."""
        self._skipped += max(0.0, when - self.time())


class _TurnSelector(selectors.BaseSelector):
    """Never waits: where a loop would, it is told to stop for now."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.on_look: Callable[[bool, float | None], None] = lambda _is_ready, _timeout: None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._real.select(0)
        self.on_look(bool(events), timeout)
        return events

    def close(self) -> None:
        self._real.close()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.get_key(fileobj)

    def get_map(self) -> Any:
        return self._real.get_map()

    def fileno(self) -> int:
        """Return what is readable while anything registered here is ready."""
        # Of epoll and kqueue; asyncio has nothing else on the systems trunkline runs on.
        return int(self._real.fileno())


class _GuestLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: Clock, selector: _TurnSelector, on_ready: Callable[[], None]) -> None:
        self._guest_clock = clock
        self._guest_on_ready = on_ready
        #: What runs in threads of asyncio's, and comes back by itself.
        self.in_threads: set[asyncio.Future[Any]] = set()
        super().__init__(selector)

    def time(self) -> float:
        return self._guest_clock.time()

    def call_soon(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = super().call_soon(callback, *args, context=context)
        self._guest_on_ready()
        return handle

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        future = super().run_in_executor(executor, func, *args)
        self.in_threads.add(future)
        future.add_done_callback(self.in_threads.discard)
        return future


class Guest:
    """Gives an agent's loop its turns on the running loop, and its clock the time."""

    def __init__(self, *, clock_runs: bool, patience_s: float) -> None:
        """Begin.

        Args:
            clock_runs: Whether the agent's time passes by itself.
            patience_s: Seconds of real time to wait for an agent that doesn't come to rest.
        """
        self._host = asyncio.get_running_loop()
        self._patience_s = patience_s
        self._selector = _TurnSelector()
        self._selector.on_look = self._on_look
        self.clock = Clock(runs=clock_runs)
        self._is_in_turn = False
        self._turn: asyncio.Handle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._turns_left = 0
        self._wakes = 0
        self._is_at_rest = False
        self._due_at: float | None = None
        self._watchers: set[asyncio.Future[None]] = set()
        #: Set when threads of the agent turned out not to end.
        self.ignores_threads = False
        self.loop = _GuestLoop(self.clock, self._selector, self.wake)
        self.loop.set_debug(self._host.get_debug())
        self._host.add_reader(self._selector.fileno(), self.wake)

    @property
    def due_in_s(self) -> float | None:
        """How long until the agent's next timer, in its time; None if it has none."""
        return None if self._due_at is None else max(0.0, self._due_at - self.clock.time())

    @property
    def threads(self) -> int:
        """How much of the agent's work is done in threads just now."""
        return len(self.loop.in_threads)

    def check_loop(self) -> None:
        """Refuse to be used on another loop than the one this was made on."""
        if asyncio.get_running_loop() is not self._host:
            raise RuntimeError(
                "this agent was started on another event loop: enter running() or agent_client() "
                "on the loop that the test runs on (a fixture of a wider scope has its own)"
            )

    def wake(self) -> None:
        """Have the agent's loop run soon."""
        self._is_at_rest = False
        if not self._is_in_turn and self._turn is None:
            self._wakes += 1
            self._plan_turn()

    async def call(self, work: Coroutine[Any, Any, _T], context: Context | None = None) -> _T:
        """Run a coroutine on the agent's loop, and return what it returns."""
        task = self.loop.create_task(work, context=context)
        try:
            await self._watch(task.done)
        finally:
            if not task.done():
                task.cancel()
        return task.result()

    async def settle(self, is_enough: Callable[[], bool] = lambda: False) -> None:
        """Return when neither the agent nor, for the moment, the test has anything to do.

        Work in asyncio's threads is waited for, unless the agent's time passes by itself.

        Args:
            is_enough: Return also as soon as this is true.

        Raises:
            RestlessError: If that took more real time than there is patience.
        """
        self.check_loop()
        quiet = 0
        try:
            async with asyncio.timeout(self._patience_s):
                while quiet < _QUIET_ROUNDS and not is_enough():
                    self._look()
                    await self._watch(lambda: self._is_quiet() or is_enough())
                    wakes = self._wakes
                    await asyncio.sleep(0)
                    quiet = quiet + 1 if wakes == self._wakes else 0
        except TimeoutError:
            raise self._restless() from None

    async def advance(self, seconds: float, is_enough: Callable[[], bool] = lambda: False) -> None:
        """Let time pass for the agent, one timer after the other, as fast as it can.

        Args:
            seconds: How much.
            is_enough: Stop at the moment at which this is true.

        Raises:
            RestlessError: See :meth:`settle`.
        """
        until = self.clock.time() + seconds
        while True:
            await self.settle(is_enough)
            if is_enough():
                return
            due_at = self._due_at
            if due_at is None or due_at > until:
                break
            self.clock.move_to(due_at)
        self.clock.move_to(until)
        await self.settle(is_enough)

    async def wait(
        self, is_there: Callable[[], bool], *, timeout_s: float, within_s: float
    ) -> bool:
        """Wait for something to become true; return whether it has.

        Args:
            is_there: What to wait for.
            timeout_s: Seconds of real time to wait at most, once ``within_s`` is used up.
            within_s: Seconds of the agent's time to let pass for it, as fast as it can.
        """
        self.check_loop()
        if not is_there() and within_s > 0:
            await self.advance(within_s, is_there)
        try:
            async with asyncio.timeout(timeout_s):
                await self._watch(is_there)
        except TimeoutError:
            return is_there()
        return True

    async def close(self) -> None:
        """End what is left on the agent's loop, and the loop.

        Raises:
            RestlessError: If a task or a thread of the agent doesn't end.
        """
        try:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel("the test is over")
            async with asyncio.timeout(self._patience_s):
                await self._watch(lambda: all(task.done() for task in tasks))
                await self.call(self.loop.shutdown_asyncgens())
                await self.call(self.loop.shutdown_default_executor())
        except TimeoutError:
            raise self._restless() from None
        finally:
            self._host.remove_reader(self._selector.fileno())
            for handle in (self._turn, self._alarm):
                if handle is not None:
                    handle.cancel()
            self._is_in_turn = True  # there are no more turns
            self.loop.close()

    def _look(self) -> None:
        """Have the agent's loop run soon; it is not known to have anything to do."""
        # Not counted as a wake: two that settle at once would keep each other from it.
        self._is_at_rest = False
        if not self._is_in_turn and self._turn is None:
            self._plan_turn()

    def _plan_turn(self) -> None:
        self._turn = self._host.call_soon(self._run_turn)

    async def _watch(self, is_there: Callable[[], bool]) -> None:
        while not is_there():
            watcher = self._host.create_future()
            self._watchers.add(watcher)
            try:
                await watcher
            finally:
                self._watchers.discard(watcher)

    def _restless(self) -> RestlessError:
        tasks = asyncio.all_tasks(self.loop)
        places = sorted({place for task in tasks if (place := waits_at(task))})
        return RestlessError(self._patience_s, self.threads, places)

    def _is_quiet(self) -> bool:
        is_busy = self.threads > 0 and not (self.clock.runs or self.ignores_threads)
        return self._is_at_rest and not is_busy

    def _run_turn(self) -> None:
        self._turn = None
        self._is_in_turn = True
        self._turns_left = _TURNS
        outer = _get_running_loop()
        # Neither loop is inside a task of the other: this is called by the test's loop itself,
        # and asyncio keeps the current task of each loop apart.
        _set_running_loop(None)
        try:
            self.loop.run_forever()
        finally:
            _set_running_loop(outer)
            self._is_in_turn = False
            if not self._is_at_rest:
                self.wake()
            self._set_alarm()
            for watcher in self._watchers:
                if not watcher.done():
                    watcher.set_result(None)

    def _on_look(self, is_ready: bool, timeout_s: float | None) -> None:
        """Decide, where the agent's loop looks for what came in or would wait, how it goes on."""
        self._turns_left -= 1
        if not is_ready and (timeout_s is None or timeout_s >= _RESOLUTION_S):
            self._is_at_rest = True
            self._due_at = None if timeout_s is None else self.clock.time() + timeout_s
            self.loop.stop()
        elif self._turns_left <= 0:
            self.loop.stop()
        elif not is_ready and timeout_s:
            # Less than asyncio can tell apart, and yet not due: rounding must not stop us here.
            self.clock.move_to(self.clock.time() + _RESOLUTION_S)

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self.clock.runs and self._is_at_rest and (due_in_s := self.due_in_s) is not None:
            self._alarm = self._host.call_later(due_in_s, self.wake)
