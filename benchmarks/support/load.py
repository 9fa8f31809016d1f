"""A load generator in a process of its own, told what to do by lines of JSON.

In a run each connection keeps one frame in flight: it writes a prebuilt masked frame, waits for the
echo, compares it byte for byte, and writes the next. At a pace each writes a frame every so often,
whatever has come back, as somebody does who speaks.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import deque
from typing import Any

import uvloop

from benchmarks.support.frames import masked_frame, plain_frame, upgrade_head

_CONNECT_AT_ONCE = 50
_STALL_S = 30.0


class EchoError(Exception):
    """The other side sent something other than what it was sent, or went away."""


class Run:
    """Round trips shared by some connections."""

    def __init__(self, round_trips: int, *, is_paced: bool = False) -> None:
        #: Round trips that connections begin by themselves when one has ended.
        self.to_start = 0 if is_paced else round_trips
        self.to_finish = round_trips
        self.took_ns: list[int] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, message: str) -> None:
        if not self.done.done():
            self.done.set_exception(EchoError(message))


class Connection(asyncio.Protocol):
    """One WebSocket connection, after a handshake done by hand."""

    def __init__(self, head: bytes, frame: bytes, echo: bytes) -> None:
        self._head = head
        self._frame = frame
        self._echo = echo
        self._received = bytearray()
        self._run: Run | None = None
        self._sent_at: deque[int] = deque()
        self.is_closing = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._head)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)
        if not self.opened.done():
            self.opened.set_exception(EchoError("the connection ended before the upgrade's answer"))
        elif self._run is not None and not self.is_closing:
            self._run.fail(f"the connection ended: {exc}")

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self._take_head(data)
            return
        if not self._received and data == self._echo:
            self._finish_trip()
            return
        self._received += data
        while len(self._received) >= len(self._echo):
            if not self._received.startswith(self._echo):
                assert self._run is not None
                self._run.fail(f"not the echo: {bytes(self._received[:80])!r}...")
                return
            del self._received[: len(self._echo)]
            self._finish_trip()

    def _take_head(self, data: bytes) -> None:
        self._received += data
        head, end, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not end:
            return
        self._received = bytearray(rest)
        if head.startswith(b"HTTP/1.1 101 "):
            self.opened.set_result(None)
        else:
            self.opened.set_exception(EchoError(f"the upgrade was answered with {head[:300]!r}"))

    def join(self, run: Run) -> None:
        self._run = run
        self._begin_trip()

    def send(self) -> None:
        self._sent_at.append(time.perf_counter_ns())
        self.transport.write(self._frame)

    def _begin_trip(self) -> None:
        assert self._run is not None
        if self._run.to_start:
            self._run.to_start -= 1
            self.send()

    def _finish_trip(self) -> None:
        run = self._run
        if run is None:
            return
        run.took_ns.append(time.perf_counter_ns() - self._sent_at.popleft())
        run.to_finish -= 1
        if run.to_finish == 0 and not run.done.done():
            run.done.set_result(None)
        self._begin_trip()


def _latencies(run: Run) -> dict[str, float]:
    took = sorted(run.took_ns)
    return {"p50_us": took[len(took) // 2] / 1000, "p99_us": took[len(took) * 99 // 100] / 1000}


class Load:
    """The connections of one target."""

    def __init__(self) -> None:
        self._connections: list[Connection] = []

    async def open(
        self,
        port: int,
        upgrades: list[tuple[str, dict[str, str]]],
        frame_bytes: int,
        connections: int,
    ) -> dict[str, Any]:
        """Open connections, which take turns with the upgrades' paths and headers."""
        loop = asyncio.get_running_loop()
        payload = bytes(i * 7 % 251 for i in range(frame_bytes))
        heads = itertools.cycle([upgrade_head(path, headers) for path, headers in upgrades])
        frame, echo = masked_frame(payload), plain_frame(payload)
        started = time.perf_counter()
        for first in range(0, connections, _CONNECT_AT_ONCE):
            batch = range(first, min(first + _CONNECT_AT_ONCE, connections))
            made = await asyncio.gather(
                *(
                    loop.create_connection(
                        lambda: Connection(next(heads), frame, echo), "127.0.0.1", port
                    )
                    for _ in batch
                )
            )
            self._connections += [connection for _, connection in made]
            async with asyncio.timeout(_STALL_S):
                await asyncio.gather(*(connection.opened for _, connection in made))
        return {"seconds": time.perf_counter() - started}

    async def run(self, round_trips: int) -> dict[str, Any]:
        run = Run(round_trips)
        started = time.perf_counter()
        for connection in self._connections:
            connection.join(run)
        async with asyncio.timeout(_STALL_S + round_trips / 1000):
            await run.done
        return {"seconds": time.perf_counter() - started, **_latencies(run)}

    async def pace(self, interval_ms: int, seconds: float) -> dict[str, Any]:
        """Have each connection send a frame every so often, not all of them at once."""
        turns = round(seconds * 1000)
        # Each millisecond has its own connections.
        groups = [self._connections[first::interval_ms] for first in range(interval_ms)]
        run = Run(sum(len(groups[turn % interval_ms]) for turn in range(turns)), is_paced=True)
        for connection in self._connections:
            connection.join(run)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for turn in range(turns):
            # A turn that is late is made up for at once, and doesn't delay those after it.
            if (wait_s := begun + turn / 1000 - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            for connection in groups[turn % interval_ms]:
                connection.send()
        async with asyncio.timeout(_STALL_S):
            await run.done
        return {"frames": len(run.took_ns), **_latencies(run)}

    async def close(self) -> dict[str, Any]:
        for connection in self._connections:
            connection.is_closing = True
            connection.transport.close()
        await asyncio.gather(*(connection.lost for connection in self._connections))
        self._connections.clear()
        return {}


def main() -> None:
    load = Load()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            request = json.loads(line)
            action = getattr(load, request.pop("do"))
            try:
                answer = runner.run(action(**request))
            except (EchoError, OSError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
