"""Runs a command's asynchronous part."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer

from trunkline.cli.exits import ExitCode

_T = TypeVar("_T")


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; Ctrl-C cancels it and ends the command with 130."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
