"""Both directions of ``connect``: what goes out, what comes in, and when it is over."""

import asyncio
from collections.abc import AsyncIterator

from trunkline.aio.tasks import TaskOwner
from trunkline.cli.sinks import Sink
from trunkline.client import ClosedError, Connection, Message, ResumingConnection
from trunkline.protocol.close import CloseCode


class Conversation:
    """One conversation, from the first frame to the close code.

    It ends when the agent closes and the connection isn't resumed, when :meth:`close_soon` is
    called, or when everything was sent and nothing came for ``linger_s`` since.
    """

    def __init__(
        self,
        connection: Connection | ResumingConnection,
        source: AsyncIterator[Message],
        sink: Sink,
        *,
        linger_s: float,
    ) -> None:
        self._connection = connection
        self._source = source
        self._sink = sink
        self._linger_s = linger_s
        self._last_frame_s = 0.0
        self._failure: Exception | None = None
        self._tasks = TaskOwner()

    async def run(self) -> int:
        """Hold the conversation and return the code it was closed with.

        Cancelling leaves the connection for its owner to close.
        """
        loop = asyncio.get_running_loop()
        self._tasks.spawn(self._send(), name="connect:send")
        try:
            while True:
                message = await self._connection.receive()
                self._last_frame_s = loop.time()
                self._sink.received(message)
        except ClosedError as exc:
            await self._tasks.aclose()
            self._sink.closed(exc.close_code, exc.reason)
            if self._failure is not None:
                raise self._failure from None
            return exc.close_code
        finally:
            await self._tasks.aclose()

    def close_soon(self) -> None:
        """Say goodbye: :meth:`run` returns once the agent has answered, or didn't in time."""
        self._tasks.spawn(self._connection.aclose(CloseCode.NORMAL), name="connect:close")

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async for message in self._source:
                await self._connection.send(message)
                self._sink.sent(message)
        except ClosedError:
            return
        except Exception as exc:  # noqa: BLE001 - raised by run(), which waits for the close
            self._failure = exc
        else:
            self._last_frame_s = max(self._last_frame_s, loop.time())
            # Not a poll: it sleeps until the deadline, which every frame received moves on.
            while (left_s := self._last_frame_s + self._linger_s - loop.time()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(left_s)
        await self._connection.aclose(CloseCode.NORMAL)
