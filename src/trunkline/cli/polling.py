"""Waiting for an invocation that was accepted and goes on (202), by asking for it again."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from trunkline.client import Invocation, Project, RefusedError
from trunkline.protocol.errors import TrunklineError

POLL_EVERY_S = 2.0
MAX_POLL_EVERY_S = 30.0
_ENDED = {"completed", "failed", "cancelled"}
_NOT_THERE_YET = 404

Sleep = Callable[[float], Awaitable[None]]


class StillRunningError(TrunklineError):
    """An invocation wasn't over when the wait for it was."""

    code = "invocation_running"


@dataclass(frozen=True, slots=True)
class Polled:
    """The last answer about an invocation."""

    answer: Invocation
    body: bytes
    status: str


def is_accepted(answer: Invocation) -> bool:
    """Tell whether the answer only says that the work has begun."""
    return answer.status == 202 and bool(answer.invocation_id)


async def wait_until_over(
    project: Project,
    agent: str,
    accepted: Invocation,
    *,
    timeout_s: float,
    sleep: Sleep = asyncio.sleep,
) -> Polled:
    """Ask every two seconds, or as often as ``Retry-After`` says, until it is over.

    Args:
        project: Where the agent is.
        agent: Its name.
        accepted: The answer that said that the work has begun.
        timeout_s: How long to ask.
        sleep: How to wait, for tests.

    Raises:
        StillRunningError: If it isn't over by then.
    """
    invocation_id, began_s = str(accepted.invocation_id), time.monotonic()
    pause_s = _pause(accepted)
    while time.monotonic() - began_s + pause_s < timeout_s:
        await sleep(pause_s)
        try:
            async with project.get_invocation(
                agent, invocation_id, session_id=accepted.session_id
            ) as answer:
                body = await answer.read()
        except RefusedError as exc:
            # An agent may not know it yet, for it answered before it wrote it down.
            if exc.status != _NOT_THERE_YET:
                raise
            continue
        if (status := _status(body)) in _ENDED:
            return Polled(answer, body, status)
        pause_s = _pause(answer)
    raise StillRunningError(
        f"invocation {invocation_id} isn't over after {timeout_s:g} s; it goes on, and "
        "--timeout-s waits longer"
    )


def _pause(answer: Invocation) -> float:
    said = dict(answer.headers).get("retry-after", "")
    if said.isdecimal():
        return min(max(float(said), 0.1), MAX_POLL_EVERY_S)
    return POLL_EVERY_S


def _status(body: bytes) -> str:
    try:
        document: Any = json.loads(body)
    except ValueError:
        return ""
    status = document.get("status") if isinstance(document, dict) else None
    return status.lower() if isinstance(status, str) else ""
