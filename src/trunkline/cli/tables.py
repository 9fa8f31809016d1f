"""Tables and fields: fitted to a terminal, plain columns where there is none."""

import datetime as dt
import sys
from collections.abc import Iterable, Sequence

from trunkline.cli import output, table
from trunkline.client import Version


def put_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their column names."""
    rows = [[_shown(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        table.load_terminal().print_table(columns, rows)
    else:
        # A pipe has no width, and its reader wants one row a line, whole.
        _put_plain(columns, rows)


def put_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names with their values, one pair a line, for addresses to be copied from."""
    _put_plain(("FIELD", "VALUE"), [[_shown(cell) for cell in pair] for pair in fields])


def _shown(cell: str) -> str:
    # Some of what is listed was chosen by whoever sent a request. What would steer a terminal is
    # shown instead of done.
    if cell.isprintable():
        return cell
    return "".join(
        char if char.isprintable() or char.isspace() else char.encode("unicode_escape").decode()
        for char in cell
    )


def _put_plain(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = [columns, *([" ".join(cell.split()) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        output.put("  ".join(cells).rstrip())


def time_text(seconds: int | None) -> str:
    """Return unix seconds as a local time."""
    if seconds is None:
        return "-"
    return dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def protocols_text(version: Version | None) -> str:
    """Return the protocols of a version, in one cell."""
    return ", ".join(version.protocols) if version and version.protocols else "-"
