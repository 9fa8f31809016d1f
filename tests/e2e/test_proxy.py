"""``trunkline proxy`` lets in what is this machine's, and what another site's page sends not."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.support.platform import Platform, ask, clean_environment

APP = "https://app.example.com"


@pytest.fixture(scope="module")
def proxy(platform: Platform, probe: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "trunkline", "proxy", "--allow-origin", APP],
        stdout=subprocess.PIPE, text=True,
        env=clean_environment()
        | {"TRUNKLINE_ENDPOINT": platform.endpoint, "TRUNKLINE_HOME": str(platform.state_dir)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1]
    finally:
        process.terminate()
        process.communicate()


def get(proxy: str, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.get(
        f"{proxy}/api/projects/default/agents?api-version=v1", headers=named, trust_env=False
    )


async def test_requests_and_websockets_pass_with_the_token(
    proxy: str, platform: Platform, probe: str
) -> None:
    answer = get(proxy)
    assert answer.status_code == 200, answer.text
    assert [agent["name"] for agent in answer.json()["data"]] == [probe]
    made = httpx2.post(
        f"{proxy}/api/projects/default/agents/{probe}/endpoint/sessions?api-version=v1",
        json={"agent_session_id": "proxied"},
        trust_env=False,
    )
    assert made.status_code == 201
    url = platform.websocket_url(probe, "proxied").replace(platform.url[7:], proxy[7:])
    async with connect(url, proxy=None, origin="http://localhost:3000") as websocket:  # type: ignore[arg-type]
        assert await ask(websocket, "facts")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"}, {"origin": "null"}, {"host": "evil.example"},
        {"host": "evil.example:80"}, {"host": "localhost.evil.example"},
        {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"},
    ],
    ids=str,
)  # fmt: skip
def test_what_another_sites_page_sends_is_refused(proxy: str, headers: dict[str, str]) -> None:
    assert get(proxy, **headers).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{"origin": APP}, {"origin": "http://localhost:9"}, {"sec_fetch_site": "same-origin"},
     {"sec_fetch_site": "none"}, {"authorization": "Bearer not-mine"}],
    ids=str,
)  # fmt: skip
def test_what_may_is_let_through(proxy: str, headers: dict[str, str]) -> None:
    assert get(proxy, **headers).status_code == 200


async def test_a_websocket_of_another_sites_page(
    proxy: str, platform: Platform, probe: str
) -> None:
    url = platform.websocket_url(probe, "x").replace(platform.url[7:], proxy[7:])
    with pytest.raises(InvalidStatus) as caught:
        await connect(url, proxy=None, origin="https://evil.example")  # type: ignore[arg-type]
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize(
    "sent",
    [
        b"GET http://evil.example/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n folded: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nauthorization : Bearer x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\nauthorization: Bearer x\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ],
)
def test_what_is_no_request_is_not_passed_on(proxy: str, sent: bytes) -> None:
    host, port = proxy[7:].split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(sent)
        with client.makefile("rb") as answer:
            assert answer.readline().split()[1] == b"400"
