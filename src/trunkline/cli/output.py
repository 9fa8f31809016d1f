"""Printing: data to stdout, everything for people to stderr, colour only where it is seen."""

import json
import os
import sys
from enum import StrEnum
from typing import Any, TextIO

#: Select Graphic Rendition parameters (ECMA-48).
RED, GREEN, CYAN, DIM = "31", "32", "36", "2"


class Format(StrEnum):
    """How data is printed."""

    TEXT = "text"
    """For people."""
    JSON = "json"
    """For programs."""


def has_colour(stream: TextIO) -> bool:
    """Tell whether colour is wanted and seen there (https://no-color.org)."""
    # The terminal's, not settings; and `trunkline --help` needs nothing else of trunkline.config.
    env = os.environ  # noqa: TID251 - see above
    return not env.get("NO_COLOR") and env.get("TERM") != "dumb" and stream.isatty()


def coloured(text: str, colour: str, stream: TextIO) -> str:
    """Return the text in a colour, if the stream shows any."""
    return f"\x1b[{colour}m{text}\x1b[0m" if has_colour(stream) else text


def say(text: str) -> None:
    """Tell people something, beside the data."""
    print(text, file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Tell people something of less weight."""
    say(coloured(text, DIM, sys.stderr))


def warn(text: str) -> None:
    """Tell people of something that may not be what they meant."""
    say(f"{coloured('warning:', RED, sys.stderr)} {text}")


def fail(text: str) -> None:
    """Tell people what went wrong."""
    say(f"{coloured('error:', RED, sys.stderr)} {text}")


def put(text: str) -> None:
    """Print a line of data at once, so that a reader of a pipe sees it."""
    print(text, flush=True)


def put_json(data: Any) -> None:
    """Print data as one indented JSON document."""
    put(json.dumps(data, indent=2, ensure_ascii=False))


def put_json_line(data: Any) -> None:
    """Print data as one line of JSON, one of many."""
    put(json.dumps(data, ensure_ascii=False, separators=(",", ":")))
