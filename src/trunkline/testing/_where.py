"""Where a task waits, in the author's own code."""

import asyncio
import gc
import inspect
import linecache
import sysconfig
from pathlib import Path
from types import FrameType
from typing import Any, Final

#: Code that the author of an agent didn't write: Python's, what is installed, trunkline's own.
_NOT_THE_AUTHORS: Final = tuple(
    {
        *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
        str(Path(__file__).parents[1]),
    }
)


def waits_at(task: "asyncio.Task[Any] | None") -> str:
    """Return the innermost line of the author's that ``task`` waits in; empty if there is none.

    As in ``talk(), main.py line 14: text = await websocket.receive_text()``.
    """
    frames = [] if task is None or task.done() else _frames(task.get_coro())
    own = [frame for frame in frames if _is_authors(frame.f_code.co_filename)]
    if not own:
        return ""
    code, line = own[-1].f_code, own[-1].f_lineno
    text = linecache.getline(code.co_filename, line).strip()
    place = f"{code.co_name}(), {Path(code.co_filename).name} line {line}"
    return f"{place}: {text}" if text else place


def _is_authors(file_name: str) -> bool:
    # A virtual environment may lie in the author's folder, and the author's folder in one.
    return not file_name.startswith(("<", *_NOT_THE_AUTHORS)) and "site-packages" not in file_name


def _frames(awaited: Any) -> list[FrameType]:
    """Return the frames of a chain of awaits, outermost first."""
    frames = []
    while awaited is not None:
        for kind, further in (("cr", "cr_await"), ("ag", "ag_await"), ("gi", "gi_yieldfrom")):
            if hasattr(awaited, further):
                frames.append(getattr(awaited, f"{kind}_frame"))
                awaited = getattr(awaited, further)
                break
        else:
            # One step of an asynchronous generator doesn't say which, but holds on to it.
            awaited = next(filter(inspect.isasyncgen, gc.get_referents(awaited)), None)
    return [frame for frame in frames if frame is not None]
