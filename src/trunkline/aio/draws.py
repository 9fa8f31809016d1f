"""Random ids, drawn from the system many at a time: a draw of its own would cost each 3 µs."""

import os
from typing import Final

#: What is drawn at once.
DRAWN_BYTES: Final = 4096


class Draws:
    """Random digits, each given out once. For one thread; a process that is forked draws anew."""

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0
        os.register_at_fork(after_in_child=self._forget)

    def hex(self, size: int) -> str:
        """Return random bytes as lower-case hex digits.

        Args:
            size: How many bytes, of 4096 at most.
        """
        end = self._at + 2 * size
        if end > len(self._digits):
            self._digits = os.urandom(DRAWN_BYTES).hex()
            self._at, end = 0, 2 * size
        drawn = self._digits[self._at : end]
        self._at = end
        return drawn

    def _forget(self) -> None:
        self._digits, self._at = "", 0
