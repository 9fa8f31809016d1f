"""Notices agents that start processes without end, and has them do so slowly."""

from typing import Protocol

#: Who was refused so many processes between two looks does nothing else.
_BOMB = 50
#: What it may use of a processor from then on, and after how many looks without it is as before.
_HELD_CPU = 0.01
_CALM_LOOKS = 2


class Bounded(Protocol):
    """An agent, as far as bounding its processors goes."""

    def bound_cpu(self, cpu: float) -> None:
        """Have it use no more than so many processors from now on."""


class ForkWatch:
    """Judges one agent by the processes it was refused.

    The kernel refuses a process when it has made nearly all of it, a copy of its parent's memory
    included. That takes milliseconds, in which a kernel that doesn't interrupt itself lets nobody
    else run, whatever their priority. So it has to happen less often.
    """

    def __init__(self, agent: Bounded, cpu: float) -> None:
        """Prepare.

        Args:
            agent: The agent.
            cpu: How many processors it may use.
        """
        self._agent = agent
        self._cpu = cpu
        self._calm_looks = 0
        self._may_hold = True
        self.is_held = False
        """Whether it has a hundredth of a processor for now."""

    def look(self, refused: int) -> None:
        """Take how many processes it was refused since the last look."""
        self._calm_looks = 0 if refused else self._calm_looks + 1
        if not self.is_held and refused >= _BOMB and self._may_hold:
            self._agent.bound_cpu(_HELD_CPU)
            self.is_held = True
        elif self.is_held and self._calm_looks >= _CALM_LOOKS:
            self._release()

    def let_end(self) -> None:
        """Leave it alone from now on: it is to end, for which it needs a processor."""
        self._may_hold = False
        if self.is_held:
            self._release()

    def _release(self) -> None:
        self._agent.bound_cpu(self._cpu)
        self.is_held = False
