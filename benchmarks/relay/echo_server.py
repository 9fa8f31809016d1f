"""The upstream of every proxy: answers upgrades, and echoes binary frames."""

import asyncio
import json
import re
from typing import Any

import uvloop

from benchmarks.support.frames import HEAD_END, plain_frame, split_masked, switching_protocols

_KEY_LINE = re.compile(rb"\r\nsec-websocket-key:\s*(\S+)", re.IGNORECASE)


class Echo(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_open = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._buffer and self._is_open:
            frame = split_masked(data)
            if frame is not None and frame[1] == len(data):
                self._transport.write(plain_frame(frame[0]))
                return
        self._buffer += data
        if not self._is_open and not self._take_head():
            return
        while (frame := split_masked(self._buffer)) is not None:
            self._transport.write(plain_frame(frame[0]))
            del self._buffer[: frame[1]]

    def _take_head(self) -> bool:
        end = self._buffer.find(HEAD_END)
        if end < 0:
            return False
        found = _KEY_LINE.search(self._buffer, 0, end)
        if found is None:
            self._transport.close()
            return False
        self._transport.write(switching_protocols(bytes(found[1])))
        del self._buffer[: end + len(HEAD_END)]
        self._is_open = True
        return True


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=2048)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
