import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

MAIN = Path(__file__).parents[3] / "samples" / "echo" / "main.py"


class FakeWebSocket:
    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self._messages = iter(messages)
        self.sent: list[str | bytes] = []

    async def receive(self) -> dict[str, Any]:
        return next(self._messages)

    async def send_text(self, text: str) -> None:
        self.sent.append(text)

    async def send_bytes(self, data: bytes) -> None:
        self.sent.append(data)


@pytest.fixture(scope="module")
def echo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("samples_echo_main", MAIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_every_frame_comes_back_as_what_it_was(echo: ModuleType) -> None:
    websocket = FakeWebSocket(
        [
            {"type": "websocket.receive", "text": "hello"},
            {"type": "websocket.receive", "text": None, "bytes": b"\x00\xff"},
            {"type": "websocket.receive", "text": ""},
            {"type": "websocket.receive", "bytes": b""},
            {"type": "websocket.disconnect", "code": 1000},
        ]
    )
    await echo.echo(websocket)
    assert websocket.sent == ["hello", b"\x00\xff", "", b""]


@pytest.mark.parametrize("content_type", ["application/json", None])
async def test_the_body_comes_back_with_its_type(
    echo: ModuleType, content_type: str | None
) -> None:
    async def body() -> bytes:
        return b'{"a": 1}'

    headers = {"content-type": content_type} if content_type else {}
    invoke: Callable[..., Any] = echo.invoke
    response = await invoke(SimpleNamespace(body=body, headers=headers))
    assert response.body == b'{"a": 1}'
    assert response.headers.get("content-type") == content_type
