"""Notices agents that always want a processor: they are told, and give way to the others."""

from collections.abc import Callable
from typing import Protocol

from trunkline.runtimes.process.sandbox.cgroups import Usage

#: Told when an agent was held back in this share of the time it wanted to run.
_THROTTLED_SHARE = 0.8
#: It is looked at when it has run in so many tenths of a second since the last time.
_MIN_PERIODS = 10
#: It gives way after so many looks in a row at which it ran or waited to, and is told after so
#: many: where many agents want a processor, nobody gets as far as to its limit.
_YIELD_LOOKS, _BUSY_LOOKS = 3, 5
#: It is as good as any other after so many at which it didn't.
_CALM_LOOKS = 2
#: Or after so many between which it wanted to run and never did: then others than agents keep the
#: machine busy, and it is to have its share of that.
_STARVED_LOOKS = 2


class Processors(Protocol):
    """An agent, as far as its processors go."""

    def is_running(self) -> bool:
        """Return whether it uses a processor just now, or waits for one."""

    @property
    def gives_way(self) -> bool:
        """Whether it gets a processor only when nobody else wants it."""

    def give_way(self, *, to_others: bool) -> bool:
        """Have it get a processor only when nobody else wants it, or again like the others.

        Returns:
            Whether that could be done.
        """


class ProcessorWatch:
    """Judges one agent's use of processors."""

    def __init__(
        self,
        agent: Processors,
        cpu: float,
        *,
        may_yield: bool,
        tell: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            agent: The agent.
            cpu: How many processors it may use.
            may_yield: Whether it gives way to others while it always wants one.
            tell: Takes a sentence about its limit.
        """
        self._agent = agent
        self._cpu = cpu
        self._may_yield = may_yield
        self._tell = tell
        #: What the last judgement was made from.
        self._judged = Usage()
        self._busy_looks = 0
        self._calm_looks = 0
        self._starved_looks = 0
        self._gives_way: bool | None = None

    def give_way(self) -> None:
        """Have it give way from now on, as if it had been seen to want a processor all the time."""
        if self._may_yield:
            self._gives_way = self._agent.give_way(to_others=True)
            self._calm_looks = 0

    def look(self, usage: Usage) -> None:
        """Take what was counted; act on what is new, and tell of it."""
        if self._gives_way is None:
            # Another process of the platform may have looked after it before.
            self._gives_way = self._agent.gives_way
        periods = usage.periods - self._judged.periods
        throttled = usage.throttled_periods - self._judged.throttled_periods
        # One that gives way may hardly run at all, and want to.
        if periods < _MIN_PERIODS and not self._gives_way:
            return
        self._judged = usage
        if self._agent.is_running():
            self._busy_looks, self._calm_looks = self._busy_looks + 1, 0
            self._starved_looks = 0 if periods else self._starved_looks + 1
        else:
            self._busy_looks, self._calm_looks = 0, self._calm_looks + 1
            self._starved_looks = 0
        self._decide()
        if periods >= _MIN_PERIODS and throttled >= _THROTTLED_SHARE * periods:
            self._tell(
                f"it wants more than its {self._cpu:g} processors (resources.cpu), and is slowed "
                "down to that"
            )
        elif self._busy_looks >= _BUSY_LOOKS:
            how = (
                "gets one when nobody else does"
                if self._gives_way
                else "shares them with others who do"
            )
            self._tell(
                f"it wants a processor all the time, and {how}; it may have {self._cpu:g} "
                "(resources.cpu)"
            )

    def _decide(self) -> None:
        if not self._gives_way and self._may_yield and self._busy_looks >= _YIELD_LOOKS:
            self._gives_way = self._agent.give_way(to_others=True)
            self._may_yield = self._gives_way
        elif self._gives_way and (
            self._calm_looks >= _CALM_LOOKS or self._starved_looks >= _STARVED_LOOKS
        ):
            self._agent.give_way(to_others=False)
            self._gives_way = False
            self._busy_looks = self._starved_looks = 0
