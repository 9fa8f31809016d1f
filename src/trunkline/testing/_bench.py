"""An agent set up for a test: its host, its event loop and its time, and what it failed with."""

import asyncio
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from trunkline.agentserver import InvocationAgentServerHost
from trunkline.testing._errors import AgentStartError, NothingCameError, RestlessError
from trunkline.testing._guest import Guest
from trunkline.testing._server import (
    Exchange,
    Failures,
    connection_context,
    host_context,
    make_server,
)
from trunkline.testing._where import waits_at
from trunkline.testing._wire import Connection

#: How much of its time an agent may take to start.
_START_WITHIN_S: Final = 60.0
#: For an agent that never rests: how often its deadlines are made to pass, and the real time
#: it gets each time to end.
_LAST_ROUNDS: Final = 4
_LAST_ROUND_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How long a test waits, and what it is told."""

    timeout_s: float
    """Seconds of real time after which waiting fails."""

    within_s: float
    """Seconds of the agent's time that may pass while the test waits for something."""

    raise_exceptions: bool
    """Whether the test gets what the agent's code raised."""

    real_time: bool
    """Whether the agent's time passes by itself."""

    def __post_init__(self) -> None:
        check_seconds("timeout_s", self.timeout_s)
        check_seconds("within_s", self.within_s)


class Bench:
    """One agent in one test."""

    def __init__(self, app: InvocationAgentServerHost, manners: Manners) -> None:
        self._manners = manners
        self._failures = Failures()
        self._context = host_context(self._failures)
        self._is_stopped = False
        self.guest = Guest(clock_runs=manners.real_time, patience_s=manners.timeout_s)
        self.guest.loop.set_exception_handler(self._on_loop_error)
        self._server = make_server(app)
        self._serving = self.guest.loop.create_task(
            self._server.serve([]), name="agent", context=self._context
        )

    @property
    def failures(self) -> list[BaseException]:
        """Everything that the agent's code raised and the host had to catch."""
        return list(self._failures.all)

    async def start(self) -> None:
        """Run the agent's startup.

        Raises:
            AgentStartError: If that fails or doesn't end.
        """
        server, serving = self._server, self._serving
        is_there = await self.guest.wait(
            lambda: server.started or serving.done(),
            timeout_s=self._manners.timeout_s,
            within_s=_START_WITHIN_S,
        )
        if server.started:
            return
        self._is_stopped = True
        errors = self._failures.take_rest()
        if not is_there:
            where = _where(asyncio.all_tasks(self.guest.loop))
            await self.guest.close()
            raise AgentStartError(f"the agent's startup doesn't end{where}")
        await self.guest.close()
        cause = errors[0] if errors else serving.exception()
        raise AgentStartError(f"the agent's startup failed: {cause!r}") from cause

    async def drain(self) -> None:
        """Tell the agent to stop, as the first SIGTERM does."""
        if not self._serving.done():
            self.guest.loop.call_soon(self._server.stop, context=self._context)
        await self.guest.settle()

    async def stop(self) -> None:
        """Drain, let as much time pass as that takes, and end. Twice is fine.

        Raises:
            RestlessError: If the agent doesn't end.
        """
        if self._is_stopped:
            return
        self._is_stopped = True
        trouble: RestlessError | None = None
        try:
            await self.drain()
            await self.guest.advance(self._server.longest_stop_s, self._serving.done)
        except RestlessError as error:
            trouble = error
            await self._stop_the_restless()
        if not self._serving.done():
            await self.guest.wait(
                self._serving.done, timeout_s=self._manners.timeout_s, within_s=0.0
            )
        try:
            await self.guest.close()
        except RestlessError as error:
            trouble = trouble or error
        if trouble is not None:
            raise trouble
        if not self._serving.cancelled():
            self._serving.result()

    async def open(self, connection: Connection) -> Exchange:
        """Connect to the agent, and return what it does there.

        Raises:
            NotListeningError: If it has stopped.
        """
        self.guest.check_loop()
        self._server.check_is_listening()
        exchange = Exchange()
        ours, theirs = socket.socketpair()
        try:
            for sock in (ours, theirs):
                sock.setblocking(False)
            await self.guest.call(
                self._server.attach(theirs), connection_context(self._context, exchange)
            )
            await self.guest.call(self.guest.loop.connect_accepted_socket(lambda: connection, ours))
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return exchange

    async def wait(
        self,
        is_there: Callable[[], bool],
        *,
        timeout_s: float | None,
        within_s: float | None,
        tell: Callable[[], list[str]],
        exchange: Exchange,
    ) -> None:
        """Wait for something the agent has to do.

        Args:
            is_there: Whether it has.
            timeout_s: Seconds of real time; None for the bench's own.
            within_s: Seconds of the agent's time; None for the bench's own.
            tell: Says what didn't come, and what is known of the agent: a line each.
            exchange: Where it has to do it.

        Raises:
            NothingCameError: If it doesn't.
        """
        timeout_s = self._manners.timeout_s if timeout_s is None else timeout_s
        within_s = self._manners.within_s if within_s is None else within_s
        check_seconds("timeout_s", timeout_s)
        check_seconds("within_s", within_s)
        if is_there():
            return
        if await self.guest.wait(is_there, timeout_s=timeout_s, within_s=within_s):
            return
        what, *facts = tell()
        time = f" and {within_s:g} s of its time" if within_s else ""
        lines = [f"{what} within {timeout_s:g} s{time}", *facts, *self._situation(exchange)]
        raise NothingCameError("\n  ".join(lines))

    def raise_failure(self, exchange: Exchange) -> None:
        """Raise what the agent failed with there, unless the test has got that, or won't."""
        if self._manners.raise_exceptions:
            error = self._failures.take(exchange)
            if error is not None:
                raise error

    def raise_rest(self) -> None:
        """Raise whatever the agent failed with and nobody has got yet."""
        errors = self._failures.take_rest()
        if not self._manners.raise_exceptions or not errors:
            return
        if len(errors) == 1:
            raise errors[0]
        raise BaseExceptionGroup("the agent failed more than once", errors)

    def note_failures(self, error: BaseException) -> None:
        """Note on a test's own failure what the agent failed with meanwhile."""
        for failure in self._failures.take_rest():
            if failure is not error:
                error.add_note(f"meanwhile the agent failed: {failure!r}{_raised_at(failure)}")

    async def _stop_the_restless(self) -> None:
        self.guest.ignores_threads = True
        for _ in range(_LAST_ROUNDS):
            clock = self.guest.clock
            clock.move_to(clock.time() + self._server.longest_stop_s)
            self.guest.wake()
            if await self.guest.wait(self._serving.done, timeout_s=_LAST_ROUND_S, within_s=0.0):
                return

    def _situation(self, exchange: Exchange) -> list[str]:
        lines = []
        guest, task = self.guest, exchange.task
        if exchange.errors:
            lines.append(f"its handler failed: {exchange.errors[0]!r}")
        elif task is not None and task.done():
            lines.append("its handler has returned")
        elif place := waits_at(task):
            lines.append(f"it waits in {place}")
        if guest.threads:
            lines.append(f"{guest.threads} of its calls run in threads")
        due_in_s = guest.due_in_s
        if due_in_s is not None and not guest.clock.runs:
            lines.append(
                f"its time stands still: its next timer is due in {due_in_s:.4g} s "
                f"(`await agent.advance({due_in_s:.4g})`, or give `within_s`)"
            )
        return lines

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        error = context.get("exception")
        if isinstance(error, Exception):
            self._failures.tell(error)


def check_seconds(name: str, value: float) -> None:
    """Refuse what is no length of time."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite, non-negative number of seconds, not {value!r}")


def _where(tasks: "set[asyncio.Task[Any]]") -> str:
    places = sorted({place for task in tasks if (place := waits_at(task))})
    return "".join(f"\n  it waits in {place}" for place in places)


def _raised_at(error: BaseException) -> str:
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f", raised in {code.co_name}(), {code.co_filename}:{trace.tb_lineno}"
