"""Two processes of one machine that ask each other things, on their event loops.

Each message is a JSON object and any files that go with it, as in :mod:`trunkline.aio.passing`;
here nothing blocks, neither reading nor writing, and both sides may ask at any time. Messages
arrive in the order in which they were sent, and so do answers after what was said before them.
"""

import array
import asyncio
import contextlib
import itertools
import json
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from trunkline.aio.passing import MAX_FILES, PassingError, close_all
from trunkline.aio.tasks import TaskOwner

_log = logging.getLogger("trunkline.channel")
_HEADER = struct.Struct("!II")
_FILE_BYTES: Final = array.array("i").itemsize
_READ_BYTES: Final = 256 * 1024
#: Whoever takes nothing of what it is told for so long is as good as gone.
_MAX_UNSENT_BYTES: Final = 64 * 1024 * 1024

Message = dict[str, Any]


class Channel:
    """One end of a connected Unix stream socket."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_tell: Callable[[Message, list[int]], None],
        on_ask: Callable[[Message], Awaitable[Mapping[str, Any]]],
        on_lost: Callable[[], None],
        on_late: Callable[[Message], None] = lambda _: None,
    ) -> None:
        """Take the socket over; call :meth:`open` to begin.

        Args:
            sock: The socket.
            on_tell: Takes what was told, and the files that came with it.
            on_ask: Answers what was asked. It is cancelled if whoever asked waits no more.
            on_lost: Called once, when the other end is gone.
            on_late: Takes an answer that nobody waits for any more.
        """
        sock.setblocking(False)
        self._sock = sock
        self._on_tell = on_tell
        self._on_ask = on_ask
        self._on_lost = on_lost
        self._on_late = on_late
        self._loop = asyncio.get_running_loop()
        self._tasks = TaskOwner()
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._read = bytearray()
        #: The files that came, those of each message together, and in the messages' order.
        self._files: deque[list[int]] = deque()
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._unsent_bytes = 0
        self._all_sent = asyncio.Event()
        self._all_sent.set()
        self._is_writing = False
        self._is_open = False

    def open(self) -> None:
        """Begin to listen to the other end."""
        self._is_open = True
        self._loop.add_reader(self._sock.fileno(), self._receive)

    @property
    def is_open(self) -> bool:
        """Whether the other end may still be there."""
        return self._is_open

    # Saying

    def tell(self, message: Mapping[str, Any], files: Sequence[int] = ()) -> None:
        """Send a message that wants no answer. The files stay open here.

        If the other end is gone nothing happens: that is told by ``on_lost``. If it has no
        descriptors for the files, it hears nothing of the message.

        Raises:
            OSError: If this process has no descriptors to send the files from. Nothing is sent.
        """
        self._send(["tell", 0, message], files)

    async def ask(self, message: Mapping[str, Any]) -> Message:
        """Send a message and return its answer. Cancelling it cancels the work over there.

        Raises:
            PassingError: If the other end is gone.
        """
        if not self._is_open:
            raise PassingError("the other process is gone")
        number = next(self._numbers)
        answer: asyncio.Future[Message] = self._loop.create_future()
        self._asked[number] = answer
        self._send(["ask", number, message])
        try:
            return await answer
        except asyncio.CancelledError:
            if self._asked.pop(number, None) is None:
                # It has just come.
                if answer.done() and not answer.cancelled() and answer.exception() is None:
                    self._on_late(answer.result())
            else:
                self._send(["cancel", number, {}])
            raise

    async def flush(self) -> None:
        """Wait until everything said so far is in the system's hands."""
        await self._all_sent.wait()

    def _send(self, words: list[Any], files: Sequence[int] = ()) -> None:
        if not self._is_open:
            return
        body = json.dumps(words, separators=(",", ":")).encode()
        own: list[int] = []
        try:
            own.extend(map(os.dup, files))
        except OSError:
            close_all(own)
            raise
        self._unsent.append((_HEADER.pack(len(body), len(own)) + body, own))
        self._unsent_bytes += len(body)
        self._all_sent.clear()
        if self._unsent_bytes > _MAX_UNSENT_BYTES:
            _log.error("another process takes nothing of what it is told")
            self._lose()
        elif not self._is_writing:
            self._write()

    def _write(self) -> None:
        try:
            while self._unsent:
                data, files = self._unsent[0]
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
                sent = self._sock.sendmsg([data], rights if files else [])
                # They went with the first byte.
                close_all(files)
                files.clear()
                if sent < len(data):
                    self._unsent[0] = data[sent:], []
                    continue
                self._unsent.popleft()
                self._unsent_bytes -= len(data) - _HEADER.size
        except (BlockingIOError, InterruptedError):
            if not self._is_writing:
                self._is_writing = True
                self._loop.add_writer(self._sock.fileno(), self._write)
            return
        except OSError:
            self._lose()
            return
        self._unsent_bytes = 0
        self._all_sent.set()
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._sock.fileno())

    # Hearing

    def _receive(self) -> None:
        space = socket.CMSG_SPACE(MAX_FILES * _FILE_BYTES)
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(
                _READ_BYTES, space, socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, ancillary, flags = b"", [], 0
        files = array.array("i")
        for level, kind, rights in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                files.frombytes(rights[: len(rights) - len(rights) % _FILE_BYTES])
        if files or flags & socket.MSG_CTRUNC:
            # The system gives those of one message at a time, and of them as many as this process
            # has descriptors for: none, perhaps, but then they aren't another message's.
            self._files.append(list(files))
        if not data:
            self._lose()
            return
        self._read += data
        while self._is_open and self._take_one():
            pass

    def _take_one(self) -> bool:
        if len(self._read) < _HEADER.size:
            return False
        size, count = _HEADER.unpack_from(self._read)
        end = _HEADER.size + size
        if len(self._read) < end:
            return False
        kind, number, message = json.loads(bytes(self._read[_HEADER.size : end]))
        del self._read[:end]
        files = self._files.popleft() if count else []
        if len(files) != count:
            close_all(files)
            _log.error(
                "another process sent %d open files, and there are descriptors for %d: what it "
                "wanted with them isn't done (%s); raise the limit on descriptors (`ulimit -n`, "
                "LimitNOFILE= of a service), or have fewer connections",
                count,
                len(files),
                message.get("do"),
            )
            return True
        match kind:
            case "tell":
                self._take_told(message, files)
            case "ask":
                task = self._tasks.spawn(self._answer(number, message), name="channel:answer")
                self._answering[number] = task
            case "answer" if (waiting := self._asked.pop(number, None)) is not None:
                if not waiting.done():
                    waiting.set_result(message)
            case "answer":
                self._on_late(message)
            case "cancel" if (task_ := self._answering.get(number)) is not None:
                task_.cancel()
        return True

    def _take_told(self, message: Message, files: list[int]) -> None:
        try:
            self._on_tell(message, files)
        except Exception:  # noqa: BLE001 - one message must not keep the others from being heard
            _log.exception("what another process told couldn't be done: %s", message.get("do"))

    async def _answer(self, number: int, message: Message) -> None:
        try:
            self._send(["answer", number, await self._on_ask(message)])
        finally:
            self._answering.pop(number, None)

    # Ending

    def _lose(self) -> None:
        if not self._is_open:
            return
        self.close()
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(PassingError("the other process is gone"))
        self._asked.clear()
        for task in self._answering.values():
            task.cancel()
        self._on_lost()

    def close(self) -> None:
        """Close this end; ``on_lost`` isn't called any more. Twice is fine."""
        self._is_open = False
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            with contextlib.suppress(ValueError):
                self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
        for _, files in self._unsent:
            close_all(files)
        self._unsent.clear()
        for files in self._files:
            close_all(files)
        self._files.clear()
        self._all_sent.set()
