"""Tables on a terminal, and what a reader needs to know about the machine."""

import os
import platform
from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.table import Table


def machine() -> str:
    """Return what a figure depends on, in a few words."""
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{cores} cores, {system}, Python {platform.python_version()}"


def console() -> Console:
    """Return a console that doesn't wrap tables where nobody looks at a terminal."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=140)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table whose first column is names and the others numbers."""
    made = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def ratio(ours: float, theirs: float) -> str:
    """Return a ratio with two decimals, or a dash where it would mean nothing."""
    return f"{ours / theirs:.2f}" if theirs > 0 and ours > 0 else "-"


def middle(ratios: Sequence[float]) -> str:
    """Return the median, and between which two half of an ascending list lies."""
    low, mid, high = quartiles(ratios)
    return f"{mid:.2f} ({low:.2f} to {high:.2f})"


def quartiles(found: Sequence[float]) -> tuple[float, float, float]:
    """Return between which two half of an ascending list lies, with its median in the middle."""
    last = len(found) - 1
    return found[round(last * 0.25)], median(found), found[round(last * 0.75)]
