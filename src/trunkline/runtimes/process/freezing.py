"""Freezes one agent in its sandbox, and has nobody look at it meanwhile."""

from collections.abc import Callable

from trunkline.runtimes.interface import Doing
from trunkline.runtimes.process.sandbox.box import Box
from trunkline.runtimes.process.sandbox.watch import LimitWatch


class BoxFreezer:
    """Freezes what is in a sandbox."""

    def __init__(self, box: Box, limits: Callable[[], LimitWatch | None]) -> None:
        """Prepare.

        Args:
            box: The sandbox.
            limits: Returns what watches its limits, once that is so.
        """
        self._box = box
        self._limits = limits

    def freeze(self) -> None:
        """Begin to freeze it, as `Freezer.freeze`."""
        if (limits := self._limits()) is not None:
            limits.pause()
        self._box.freeze()

    def thaw(self) -> None:
        """Let it go on, as `Freezer.thaw`."""
        self._box.thaw()
        if (limits := self._limits()) is not None:
            limits.go_on()

    def let_end(self) -> None:
        """Let it take a signal: a frozen process takes none, not even the one that kills.

        Nor does one soon that gets a processor only when nobody else wants it, or hardly any.
        """
        self.thaw()
        if (limits := self._limits()) is not None:
            limits.let_end()
        if self._box.gives_way:
            self._box.give_way(to_others=False)

    @property
    def is_frozen(self) -> bool:
        """Whether nothing of it runs."""
        return self._box.is_frozen

    def doing(self) -> Doing:
        """Return what it does of its own accord."""
        return self._box.doing()
