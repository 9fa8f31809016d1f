"""What is only shown on a terminal: tables that fit its width, and a line that moves."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their column names; long cells are folded."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, column in enumerate(columns):
        # The first is what a row is called, and what is copied from it.
        table.add_column(column, no_wrap=place == 0)
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    Console(highlight=False, markup=False, emoji=False).print(table)


class Spinner:
    """One line on stderr that says what is being done."""

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._status = Status("", console=console)

    def start(self) -> None:
        self._status.start()

    def update(self, text: str) -> None:
        self._status.update(text)

    def stop(self) -> None:
        self._status.stop()
