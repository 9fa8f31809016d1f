"""``python -m benchmarks.recording``: what recording costs a call's client, and a replay's timing.

Clients hold the same voice call with one echo server at the same time: 20 ms frames of 24 kHz
sound, each client a process of its own, half of them with a recorder. A replay then plays one of
the recordings.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from trunkline.cli.sources import paced
from trunkline.client import Connection, Project
from trunkline.recordings.compare import Rules, compare
from trunkline.recordings.format import BINARY, read_recording
from trunkline.recordings.player import Player
from trunkline.recordings.recorder import Recorder
from trunkline.recordings.statistics import summary_ms

_FRAME_BYTES = 960
_INTERVAL_S = 0.02


async def talk(websocket: WebSocket) -> None:
    await websocket.accept(headers=[(b"x-agent-session-id", b"s-1")])
    async for data in websocket.iter_bytes():
        await websocket.send_bytes(data)


class Echo:
    """The echo server, in this process."""

    async def __aenter__(self) -> str:
        path = "/api/projects/default/agents/echo/endpoint/protocols/invocations_ws"
        app = Starlette(routes=[WebSocketRoute(path, talk)])
        config = uvicorn.Config(
            app, port=0, ws="websockets-sansio", lifespan="off", log_level="error"
        )
        self._server = uvicorn.Server(config)
        sock = config.bind_socket()
        self._serving = asyncio.ensure_future(self._server.serve([sock]))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._serving


async def call(url: str, seconds: float, path: Path | None) -> dict[str, float]:
    """Hold one call; return its CPU time and frames. Runs in a process of its own."""
    frames = int(seconds / _INTERVAL_S)
    with open(path or "/dev/null", "wb") as file:
        tap = Recorder(file, {"agent": "echo"}) if path else None
        async with Project(url, "token") as project, project.connect("echo", tap=tap) as connection:
            before = time.process_time()
            await asyncio.gather(_send(connection, frames), _receive(connection, frames))
            cpu_s = time.process_time() - before
    return {"cpu_s": cpu_s, "frames": 2 * frames}


async def _send(connection: Connection, frames: int) -> None:
    async def sound():
        for number in range(frames):
            yield number.to_bytes(4) + bytes(_FRAME_BYTES - 4)

    async for frame in paced(sound(), _INTERVAL_S, clock=time.monotonic):
        await connection.send(frame)


async def _receive(connection: Connection, frames: int) -> None:
    for _ in range(frames):
        await connection.receive()


async def child(url: str, seconds: float, path: Path | None) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.recording",
        "--child",
        url,
        "--seconds",
        str(seconds),
    ]
    if path is not None:
        command += ["--record", str(path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise SystemExit("a client failed")
    result: dict[str, float] = json.loads(out)
    return result


async def main(seconds: float, pairs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.trk" for number in range(pairs)]
        async with Echo() as url:
            jobs = [child(url, seconds, path) for pair in paths for path in (None, pair)]
            results = await asyncio.gather(*jobs)
            plain = [result["cpu_s"] for result in results[::2]]
            recorded = [result["cpu_s"] for result in results[1::2]]
            ratios = sorted(
                with_it / without for without, with_it in zip(plain, recorded, strict=True)
            )
            expected = int(results[0]["frames"])
            for path in paths:
                kept = sum(r.opcode == BINARY for r in read_recording(path).records)
                if kept != expected:
                    raise SystemExit(f"{path.name} has {kept} frames of {expected}")
            recording = read_recording(paths[0])
            async with Project(url, "token") as project, project.connect("echo") as connection:
                played = await Player(recording).play(connection)
    found = compare(recording.messages(from_agent=True), played.received, Rules())
    size = "{:.3f}".format
    print(f"a call of {seconds:.0f} s, {expected} frames, {pairs} pairs of clients at once")
    print(f"CPU with a recorder / without: {size(median(ratios))} ({', '.join(map(size, ratios))})")
    each_us = sum(plain) / expected / pairs * 1e6
    print(f"CPU of a client without, for each frame: {each_us:.0f} microseconds")
    print(f"CPU of all with / of all without: {size(sum(recorded) / sum(plain))}")
    print(f"frames lost by the recorders: 0 of {expected * pairs}")
    print(f"replay: sent late by, in ms: {summary_ms(played.late_s)}")
    print(f"replay against the same agent: {len(found)} differences")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recording", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="how long the call is")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of clients")
    parser.add_argument("--child", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(asyncio.run(call(options.child, options.seconds, options.record))))
    else:
        asyncio.run(main(options.seconds, options.pairs))
