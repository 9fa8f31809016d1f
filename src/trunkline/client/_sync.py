"""A conversation for programs that don't use asyncio: the same one, on an event loop of its own."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Self, TypeVar

from trunkline.client._connect import ENDED_WELL, ClosedError, Connecting, Message
from trunkline.client._endpoint import Endpoint
from trunkline.client._frames import FrameTap
from trunkline.client._open import connect
from trunkline.client._resume import DEFAULT_BACKOFF, Backoff, ResumingConnection
from trunkline.client._tokens import TokenSource
from trunkline.protocol.close import CloseCode

T = TypeVar("T")


class _Background:
    """An event loop on a thread, which doesn't keep the program from ending."""

    def __init__(self) -> None:
        self._is_running = threading.Event()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._run(),), name="trunkline:client", daemon=True
        )
        self._thread.start()
        self._is_running.wait()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._is_running.set()
        await self._stop.wait()

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` returns; if this thread is interrupted, it is cancelled.

        Raises:
            CancelledError: If the loop is closed before it is done.
        """
        if not self._is_running.is_set():
            work.close()
            raise CancelledError
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            # Changes nothing if it is done.
            future.cancel()

    def close(self) -> None:
        """Cancel what is being done, and end the thread. Twice is fine."""
        if self._is_running.is_set():
            self._is_running.clear()
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()


class SyncConversation:
    """A conversation with one session, over as many connections as it takes; close it, or ``with``.

    It does what :class:`ResumingConnection` does. One thread may send while another receives;
    each direction takes one at a time.
    """

    def __init__(self, opening: Connecting[ResumingConnection]) -> None:
        """Open it; :func:`connect_sync` is the way to make one."""
        self._background = _Background()
        self._opening = opening
        try:
            self._conversation = self._background.wait_for(opening.__aenter__())
        except BaseException:
            self._background.close()
            raise

    @property
    def session_id(self) -> str:
        """The session all the connections are to."""
        return self._conversation.session_id

    @property
    def connections(self) -> int:
        """How many connections it took so far."""
        return self._conversation.connections

    @property
    def close_code(self) -> int | None:
        """The code the last connection was closed with; None while it is open."""
        return self._conversation.close_code

    @property
    def close_reason(self) -> str:
        """The text that came with the close code."""
        return self._conversation.close_reason

    def send(self, message: Message, *, timeout_s: float | None = None) -> None:
        """Send one message as one frame: text if it is ``str``, else binary.

        Waits while the agent takes nothing more, and while there is no connection.

        Raises:
            TimeoutError: If it took longer than ``timeout_s``. The connection may be closed then,
                as a frame can't be sent by half.
            ClosedError: If the conversation is over.
            RefusedError: If the platform won't let the session be resumed.
            UnreachableError: If there was no connection for too long.
        """
        self._within(timeout_s, self._conversation.send(message))

    def receive(self, *, timeout_s: float | None = None) -> Message:
        """Return the next message; raises as :meth:`send` does.

        No message is lost when it takes longer than ``timeout_s``: call it again.
        """
        return self._within(timeout_s, self._conversation.receive())

    def __iter__(self) -> Iterator[Message]:
        """Yield messages until the conversation ends.

        Raises:
            ClosedError: If it ended otherwise than by 1000, or by a close without a code.
        """
        while True:
            try:
                message = self.receive()
            except ClosedError as exc:
                if exc.close_code in ENDED_WELL:
                    return
                raise
            yield message

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close, waiting a few seconds for the other side to agree. Twice is fine."""
        try:
            self._background.wait_for(self._close(code, reason))
        except CancelledError:
            return
        finally:
            self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def _close(self, code: int, reason: str) -> None:
        try:
            await self._conversation.aclose(code, reason)
        finally:
            await self._opening.__aexit__(None, None, None)

    def _within(self, timeout_s: float | None, work: Coroutine[Any, Any, T]) -> T:
        # The time is kept on the loop: there, what arrives in the last moment isn't lost.
        try:
            return self._background.wait_for(_timed(timeout_s, work))
        except CancelledError:
            work.close()
            code = self.close_code or CloseCode.NORMAL
            raise ClosedError(code, self.close_reason or "closed here") from None


async def _timed(timeout_s: float | None, work: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(timeout_s):
        return await work


def connect_sync(  # noqa: PLR0913 - as connect
    agent: str,
    *,
    session_id: str | None = None,
    token: TokenSource | None = None,
    endpoint: Endpoint | str | None = None,
    backoff: Backoff | None = DEFAULT_BACKOFF,
    allow_insecure_http: bool = False,
    tap: FrameTap | None = None,
) -> SyncConversation:
    """Open a conversation with an agent, without asyncio.

    ::

        with connect_sync("my-agent") as conversation:
            conversation.send("hello")
            for message in conversation:
                print(message)

    It runs on a thread of its own, so it works within a notebook or a server that has an event
    loop already. What is called meanwhile, such as ``token`` and ``tap``, is called there.

    The arguments are those of :func:`connect`, and so is what it raises.
    """
    return SyncConversation(
        connect(
            agent,
            session_id=session_id,
            token=token,
            endpoint=endpoint,
            backoff=backoff,
            allow_insecure_http=allow_insecure_http,
            tap=tap,
        )
    )
