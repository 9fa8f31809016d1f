"""A flood of bad tokens: few cost more than a look, and a conversation goes on beside it."""

import asyncio
import secrets
import socket
import threading
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.gateway.test_attacks import child
from tests.integration.gateway.test_relay import echo_gateway
from tests.support.gateway import NEW_PATH, Gateway, running_gateway
from tests.support.gateway_process import upgrade_head
from trunkline.auth.issuer import ISSUER
from trunkline.auth.keys import PublicKey
from trunkline.auth.rates import RateSettings
from trunkline.runtimes.interface import Address

AT_ONCE = 20
#: With a mask of zeros, so that the echo has the same payload.
FRAME, ECHO = b"\x82\x85\0\0\0\0voice", b"\x82\x05voice"


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The algorithms of the signatures that were checked, one for each."""
    seen: list[str] = []
    real = PublicKey.verifies

    def watched(self: PublicKey, algorithm: str, signed: bytes, signature: bytes) -> bool:
        seen.append(algorithm)
        return real(self, algorithm, signed, signature)

    monkeypatch.setattr(PublicKey, "verifies", watched)
    return seen


async def status_of(gateway: Gateway, token: str) -> int:
    reader, writer = await gateway.open()
    head = gateway.upgrade_head(NEW_PATH).partition(b"Authorization")[0]
    writer.write(head + f"Authorization: Bearer {token}\r\n\r\n".encode())
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])


async def test_a_flood_is_refused_at_the_door_and_a_conversation_goes_on(
    checked: list[str],
) -> None:
    # One every five seconds: the next one isn't due by the time the last one is asked.
    rates = RateSettings(failures_per_address=0.2, upgrades_per_address=0)
    async with echo_gateway(rates=rates) as gateway:
        async with gateway.connect() as websocket:
            checked.clear()
            good = gateway.token()
            signed, _, signature = good.rpartition(".")
            statuses: list[int] = []
            began = asyncio.get_running_loop().time()
            for _ in range(20):
                # Each token is another, and the signature of each is well formed.
                tokens = [
                    f"{signed}.{secrets.token_urlsafe(16)}{signature[22:]}" for _ in range(AT_ONCE)
                ]
                statuses += await asyncio.gather(*(status_of(gateway, t) for t in tokens))
                await websocket.send("still here?")
                assert await websocket.recv() == "still here?"
            took = asyncio.get_running_loop().time() - began
            most = 2 + 0.2 * took + AT_ONCE
            assert statuses.count(429) >= len(statuses) - most
            # What is refused for coming too often isn't looked at at all.
            assert len(checked) <= most
            assert len(checked) == statuses.count(401)
            # A good token gains nothing there, and neither does a request for something else.
            assert await status_of(gateway, good) == 429


async def test_upgrades_of_an_address_have_a_limit_that_is_named() -> None:
    rates = RateSettings(upgrades_per_address=0.5)
    async with echo_gateway(rates=rates) as gateway:
        good = gateway.token()
        assert [await status_of(gateway, good) for _ in range(6)] == [101] * 5 + [429]
        reader, writer = await gateway.open()
        writer.write(gateway.upgrade_head(NEW_PATH))
        answer = (await reader.read()).lower()
        writer.close()
        assert b"upgrades_per_address" in answer
        assert b"retry-after: 2\r\n" in answer


@pytest.mark.parametrize(
    ("claims", "headers"),
    [
        ({"iss": "https://elsewhere.example"}, {}),
        ({"exp": 1}, {}),
        ({"nbf": 99999999999}, {}),
        ({"aud": "https://elsewhere.example"}, {}),
        ({"sub": None}, {}),
        ({}, {"kid": "nobody's"}),
        ({}, {"alg": "ES384"}),
        ({}, {"crit": ["exp"]}),
    ],
)
async def test_what_cannot_be_good_is_not_checked(
    checked: list[str], claims: dict[str, Any], headers: dict[str, Any]
) -> None:
    async with echo_gateway() as gateway:
        good = gateway.token()
        head = jwt.get_unverified_header(good) | headers
        body = jwt.decode(good, options={"verify_signature": False}) | claims
        curve = ec.SECP384R1() if head["alg"] == "ES384" else ec.SECP256R1()
        assert body["iss"] == ISSUER or claims
        token = jwt.encode(body, ec.generate_private_key(curve), head["alg"], headers=head)
        assert await status_of(gateway, token) == 401
        assert checked == []
        assert await status_of(gateway, f"{good[:-6]}AAAAAA") == 401
        assert checked == ["ES256"]


async def test_an_open_conversation_does_not_wait_for_whoever_comes_in(tmp_path: Path) -> None:
    # Tokens are verified where new requests are looked at. Frames pass by a thread of their own.
    path = str(tmp_path / "agent.sock")
    async with child("agent", path) as agent:
        await agent.read()
        async with running_gateway(Address(path=path)) as gateway:
            has_talked, may_talk = threading.Event(), threading.Event()
            is_open = asyncio.Event()
            loop = asyncio.get_running_loop()

            def talk() -> int:
                with socket.create_connection(("127.0.0.1", gateway.port)) as line:
                    line.sendall(upgrade_head(NEW_PATH, gateway.token()))
                    answer = b""
                    while b"\r\n\r\n" not in answer:
                        answer += line.recv(4096)
                    line.sendall(FRAME)
                    assert line.recv(4096) == ECHO
                    loop.call_soon_threadsafe(is_open.set)
                    may_talk.wait()
                    for _ in range(50):
                        line.sendall(FRAME)
                        assert line.recv(4096) == ECHO
                    has_talked.set()
                return 50

            talking = asyncio.create_task(asyncio.to_thread(talk))
            await is_open.wait()
            may_talk.set()
            # As long as this takes, the event loop does nothing at all.
            assert has_talked.wait(30)
            assert await talking == 50
