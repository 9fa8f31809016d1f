"""Tells a session's log what its agent was refused, and not for ever."""

from collections.abc import Callable

_MAX_TOLD = 20


class Told:
    """Passes sentences on until there have been many."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._count = 0

    def say(self, what: str) -> None:
        """Pass a sentence on, unless there have been too many."""
        if self._count < _MAX_TOLD:
            self._count += 1
            more = "; no more such lines are written" if self._count == _MAX_TOLD else ""
            self._tell(what + more)
