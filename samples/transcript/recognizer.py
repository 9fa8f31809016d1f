"""Recognition as speech comes in, by Moonshine's tiny English model, which is in its package."""

import asyncio
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import Any, Protocol

RATE = 24_000
UPDATE_S = 0.4
"""How often words that aren't finished are recognised anew. Each time costs a tenth of a second."""
MOST_WAITING_S = 10.0
"""How much sound may wait to be recognised before the speaker is asked to slow down."""

#: Takes a line's number in this stream, its text, its beginning and end, and whether it is final.
Hear = Callable[[int, str, float, float, bool], None]


class Stream(Protocol):
    """Sound of one speaker."""

    async def feed(self, pcm: bytes) -> None:
        """Take sound. Returns at once, unless too much waits to be recognised."""

    async def aclose(self) -> None:
        """Recognise what is left, and end."""


class MoonshineStreams:
    """One model on a thread of its own, for one speaker after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="moonshine")
        # Loading is the thread's first job, so it goes on while the host starts.
        self._model = self._thread.submit(_load)

    async def open(self, hear: Hear) -> "MoonshineStream":
        """Begin to listen to a speaker; ``hear`` is called on the event loop."""
        loop = asyncio.get_running_loop()

        def listener(event: Any) -> None:
            line, kind = event.line, event.__class__.__name__
            # A line that is complete comes as a changed one, too.
            if kind != ("LineCompleted" if line.is_complete else "LineTextChanged"):
                return
            ends_s = line.start_time + line.duration
            heard = (line.line_id, line.text.strip(), line.start_time, ends_s, line.is_complete)
            loop.call_soon_threadsafe(hear, *heard)

        def start() -> Any:
            stream = self._model.result().create_stream(update_interval=UPDATE_S)
            stream.add_listener(listener)
            stream.start()
            return stream

        return MoonshineStream(self._thread, await loop.run_in_executor(self._thread, start))


class MoonshineStream:
    """Moonshine's side of one speaker."""

    def __init__(self, thread: ThreadPoolExecutor, stream: Any) -> None:
        self._thread = thread
        self._stream = stream
        self._waiting_s = 0.0
        self._taken = asyncio.Event()
        self._error: BaseException | None = None

    async def feed(self, pcm: bytes) -> None:
        while self._waiting_s >= MOST_WAITING_S:
            self._taken.clear()
            await self._taken.wait()
        if self._error is not None:
            raise self._error
        samples = [value / 32_768 for value in array("h", pcm)]
        seconds = len(samples) / RATE
        self._waiting_s += seconds
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._thread, self._stream.add_audio, samples, RATE)
        job.add_done_callback(partial(self._took, seconds))

    def _took(self, seconds: float, job: "asyncio.Future[None]") -> None:
        self._waiting_s -= seconds
        if not job.cancelled():
            self._error = self._error or job.exception()
        self._taken.set()

    async def aclose(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._stop)

    def _stop(self) -> None:
        self._stream.stop()
        self._stream.close()


def _load() -> Any:
    package = import_module("moonshine_voice")
    model = import_module("moonshine_voice.utils").get_model_path("tiny-en")
    return package.Transcriber(str(model), package.ModelArch.TINY)
