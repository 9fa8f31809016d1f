"""How a worker's connections go to a worker of the platform process that replaces this one.

Each worker has a line of its own to its successor, made for it by the two main processes. What
goes over it is what two platform processes say to each other, too.
"""

import base64
import contextlib
import dataclasses
import functools
import logging
import socket

from trunkline.aio.passing import Passing, PassingError
from trunkline.gateway.moving import Departure, Entrance, Moved
from trunkline.platform.handover import ANSWER_TIMEOUT_S, Line, NextProcess

_log = logging.getLogger("trunkline.workers")


def line_over(file: int) -> Line:
    """Return the line that a descriptor is an end of."""
    return Line(Passing(socket.socket(fileno=file), timeout_s=ANSWER_TIMEOUT_S))


async def depart(departure: Departure, line: Line, timeout_s: float) -> tuple[Moved, bool]:
    """Move everything that can be moved; tell whether the other worker was there all the time.

    Args:
        departure: The way out.
        line: Where to.
        timeout_s: How long it may take.
    """
    try:
        await departure.move(NextProcess(line), timeout_s)
    except PassingError as exc:
        _log.error("connections can't move to a worker, another one is tried: %s", exc)
        return departure.moved, False
    else:
        return departure.moved, True
    finally:
        line.close()


async def arrive(entrance: Entrance, line: Line) -> None:
    """Take in what comes until nothing does any more."""
    with contextlib.suppress(PassingError), contextlib.closing(line):
        while True:
            message, files = await line.receive()
            if message["do"] == "relays":
                relays = message["relays"]
                await entrance.take_relays(
                    relays, files, functools.partial(line.send, {"taken": len(relays)})
                )
            else:
                await entrance.take_connection(base64.b64decode(message["data"]), files[0])


def moved_words(moved: Moved) -> dict[str, object]:
    """Return what became of connections, as JSON has it."""
    return dataclasses.asdict(moved)
