"""The agent host: any bytes at all, and any frames after a good handshake."""

import asyncio
import logging
import socket
import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["trunkline", "uvicorn", "starlette"]):
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

    from fuzz.connections import MemoryTransport, check_answer, feed, settle
    from trunkline.agentserver import InvocationAgentServerHost

_HANDSHAKE = (
    b"GET /invocations_ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_HEAD_PARTS = (
    b"GET ", b"POST ", b"/invocations_ws", b"/invocations", b"/readiness", b" HTTP/1.1\r\n",
    b"Host: a\r\n", b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n", b"\r\n",
    b"Sec-WebSocket-Version: 13\r\n", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n",
)  # fmt: skip

app = InvocationAgentServerHost(ws_max_message_bytes=4096, access_log=None)


@app.ws_handler
async def talk(websocket: WebSocket) -> None:
    while (message := await websocket.receive())["type"] == "websocket.receive":
        text = message.get("text")
        await (
            websocket.send_bytes(message["bytes"]) if text is None else websocket.send_text(text)
        )


@app.invoke_handler
async def invoke(request: Request) -> Response:
    return Response(await request.body())


class Harness:
    """One event loop and one server, fed with one connection after the other."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.failures: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context))
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.server = app._server(sock, owns_process=False)
        self.server.config.load()

    def talk(self, chunks: list[bytes], *, must_be_http: bool) -> None:
        self.loop.run_until_complete(self._talk(chunks, must_be_http=must_be_http))
        assert not self.failures, self.failures

    async def _talk(self, chunks: list[bytes], *, must_be_http: bool) -> None:
        config = self.server.config
        make: Any = config.http_protocol_class
        protocol = make(config=config, server_state=self.server.server_state, app_state={})
        transport = MemoryTransport()
        transport.protocol = protocol
        protocol.connection_made(transport)
        for chunk in chunks:
            if transport.is_closed:
                break
            if not transport.is_reading_paused:
                feed(protocol, transport, chunk)
            await settle()
        transport.collect()
        check_answer(transport.written, must_be_http=must_be_http)
        transport.close()
        transport.protocol.connection_lost(None)
        await settle()
        # A handler that sleeps out its grace is cancelled; nothing outlives its connection.
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _chunks(data: atheris.FuzzedDataProvider, whole: bytes) -> list[bytes]:
    found = []
    while whole:
        size = data.ConsumeIntInRange(1, max(1, len(whole)))
        found.append(whole[:size])
        whole = whole[size:]
    return found


def test_one(raw: bytes) -> None:
    data = atheris.FuzzedDataProvider(raw)
    kind = data.ConsumeIntInRange(0, 2)
    if kind == 0:
        whole = data.ConsumeBytes(2000)
        harness.talk(_chunks(data, whole), must_be_http=True)
    elif kind == 1:
        parts = []
        for _ in range(data.ConsumeIntInRange(1, 12)):
            chosen = data.ConsumeIntInRange(0, len(_HEAD_PARTS))
            parts.append(
                _HEAD_PARTS[chosen] if chosen < len(_HEAD_PARTS) else data.ConsumeBytes(40)
            )
        harness.talk(_chunks(data, b"".join(parts)), must_be_http=True)
    else:
        frames = data.ConsumeBytes(3000)
        harness.talk([_HANDSHAKE, *_chunks(data, frames)], must_be_http=True)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    harness = Harness()
    atheris.Setup(sys.argv, test_one)
    atheris.Fuzz()
