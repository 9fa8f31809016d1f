"""Says how far a long command is: a line that moves on a terminal, plain lines elsewhere."""

import sys
from types import TracebackType
from typing import Self

from trunkline.cli import output, table


class Progress:
    """The present step of a command, on stderr. Use it as a context manager."""

    def __init__(self, *, is_plain: bool = False) -> None:
        """Begin.

        Args:
            is_plain: Plain lines on a terminal, too: something else is printed in between.
        """
        moves = sys.stderr.isatty() and not is_plain
        self._spinner = table.load_terminal().Spinner() if moves else None
        self._last = ""

    def step(self, text: str) -> None:
        """Say what is being done now. Saying the same again prints nothing."""
        if text == self._last:
            return
        self._last = text
        if self._spinner is None:
            output.say(text)
        else:
            self._spinner.update(text)

    def __enter__(self) -> Self:
        if self._spinner is not None:
            self._spinner.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._spinner is not None:
            self._spinner.stop()
