"""What ``connect`` sends: lines of text, or a file in frames, read without blocking."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable

from trunkline.cli.pacing import Schedule
from trunkline.client import Message
from trunkline.protocol.errors import InvalidRequestError

_READ_BYTES = 64 * 1024
#: A line is one frame, and a frame this long no platform takes.
MAX_LINE_BYTES = 16 * 1024 * 1024
_SHOWN_CHARS = 60


async def read_chunks(descriptor: int) -> AsyncIterator[bytes]:
    """Yield what a descriptor gives until its end. Cancelling is safe.

    No thread is used: one that hangs in a read of a terminal would keep the process alive.
    """
    while True:
        await _readable(descriptor)
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            continue
        if not data:
            return
        yield data


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:
        # epoll takes no regular files: they never make a reader wait.
        await asyncio.sleep(0)
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Yield lines without their ends; what is left after the last newline is a line, too.

    Raises:
        InvalidRequestError: If a line isn't UTF-8, or far too long.
    """
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield _text(line)
        if len(rest) > MAX_LINE_BYTES:
            raise InvalidRequestError(f"a line of the input is over {MAX_LINE_BYTES} bytes")
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise InvalidRequestError(
            "the input isn't UTF-8 text: send binary with --send-file FILE"
        ) from None


async def frames_of(chunks: AsyncIterator[bytes], frame_bytes: int) -> AsyncIterator[bytes]:
    """Yield the same bytes in frames of one size; the last may be shorter."""
    rest = b""
    async for chunk in chunks:
        rest += chunk
        whole = len(rest) - len(rest) % frame_bytes
        for at in range(0, whole, frame_bytes):
            yield rest[at : at + frame_bytes]
        rest = rest[whole:]
    if rest:
        yield rest


async def paced(
    frames: AsyncIterator[bytes],
    interval_s: float,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[Message]:
    """Yield each frame when it is due; the first is due at once."""
    schedule, index = Schedule(clock(), interval_s), 0
    async for frame in frames:
        wait_s = schedule.wait_s(index, clock())
        if wait_s:
            await sleep(wait_s)
        yield frame
        index += 1


async def json_of(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield lines that are JSON, and skip empty ones.

    Raises:
        InvalidRequestError: At the first line that isn't.
    """
    async for line in lines:
        if not line.strip():
            continue
        try:
            json.loads(line)
        except ValueError as exc:
            raise InvalidRequestError(f"{_cut(line)!r} isn't JSON: {exc}") from None
        yield line


async def bytes_of(lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """Yield the bytes that lines of hexadecimal digits stand for, and skip empty ones.

    Raises:
        InvalidRequestError: At the first line that has anything else.
    """
    async for line in lines:
        if not line.strip():
            continue
        try:
            yield bytes.fromhex(line)
        except ValueError:
            raise InvalidRequestError(
                f"{_cut(line)!r} isn't hexadecimal: write two digits a byte, such as 01 ff"
            ) from None


def _cut(line: str) -> str:
    return line if len(line) <= _SHOWN_CHARS else f"{line[:_SHOWN_CHARS]}..."
