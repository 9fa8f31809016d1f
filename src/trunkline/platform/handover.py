"""What two processes of the platform say to each other while one replaces the other.

The old one begins with what both need (the listening socket, the locks, the node's id). The new
one makes everything ready and says so; until then the old one goes on as if nothing happened.
Then the sessions go over at once, the new one begins to accept, and connections follow a few at
a time while both relay. At last the old one finishes its requests and ends.
"""

import asyncio
import base64
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.aio.passing import Passing, PassingError
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import SessionKey

#: How long one message may take to come when it has begun, and an answer that takes no work.
ANSWER_TIMEOUT_S = 20.0


class ReloadFailedError(TrunklineError):
    """The platform couldn't be replaced by a newer process; the old one goes on."""

    code = "reload_failed"


class PlatformEndsError(ReloadFailedError):
    """It couldn't be replaced, and ends all the same."""


class Line:
    """The line between the two processes, for a running event loop."""

    def __init__(self, passing: Passing) -> None:
        self._passing = passing

    def send(self, message: Mapping[str, Any], files: Sequence[int] = ()) -> None:
        """Send a message.

        Raises:
            PassingError: If the other process is gone.
        """
        self._passing.send(message, files)

    async def receive(self, timeout_s: float | None = None) -> tuple[dict[str, Any], list[int]]:
        """Wait for the next message. One caller at a time.

        Raises:
            PassingError: If the other process is gone.
            TimeoutError: If nothing came in time.
        """
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._passing.fileno(), ready.set)
        try:
            async with asyncio.timeout(timeout_s):
                await ready.wait()
        finally:
            loop.remove_reader(self._passing.fileno())
        return self._passing.receive()

    def hear_the_last(self) -> bool:
        """Have the other process say nothing more; tell whether it has said something."""
        return self._passing.hear_the_last()

    def close(self) -> None:
        """Close this end. Twice is fine."""
        self._passing.close()


class NextProcess:
    """The new process, as the old one's sessions and connections see it."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def relays(self, relays: Sequence[Mapping[str, Any]], files: Sequence[int]) -> None:
        self._line.send({"do": "relays", "relays": list(relays)}, files)
        try:
            await self._line.receive(ANSWER_TIMEOUT_S)
        except TimeoutError:
            if not self._line.hear_the_last():
                raise PassingError("the other process doesn't answer") from None

    def connection(self, data: bytes, file: int) -> None:
        self._line.send({"do": "connection", "data": base64.b64encode(data).decode()}, [file])

    def lease_returned(self, key: SessionKey) -> None:
        self._tell({"do": "lease returned", "key": [key.project, key.agent, key.session_id]})

    def event(self, home: str, reason: str, message: str) -> None:
        self._tell({"do": "event", "home": home, "reason": reason, "message": message})

    def warm_up(self, key: SessionKey) -> None:
        self._tell({"do": "warm up", "key": [key.project, key.agent, key.session_id]})

    def _tell(self, message: Mapping[str, Any]) -> None:
        # If it is gone, the keeper is about to end all of us.
        with contextlib.suppress(PassingError):
            self._line.send(message)
