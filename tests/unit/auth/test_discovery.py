"""How often a provider is asked for its keys, and what of its answers is believed."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from trunkline.auth.discovery import DiscoveredKeys, is_safe_url
from trunkline.auth.issuer import DevelopmentIssuer
from trunkline.auth.keys import PublicKey, parse_key_set
from trunkline.auth.settings import AuthSettings
from trunkline.protocol.errors import UnavailableError


def jwk() -> dict[str, Any]:
    return DevelopmentIssuer(ec.generate_private_key(ec.SECP256R1())).public_jwk


KNOWN = jwk() | {"kid": "known"}


class Published:
    """What a provider has to say, and how often it was asked."""

    def __init__(self) -> None:
        self.issuer = ""
        self.claimed: str | None = None
        self.keys = [jwk()]
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}
        self.status = 200
        self.body: bytes | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def discovery(self, request: web.Request) -> web.Response:
        self.asked.append("discovery")
        return web.json_response(
            {"issuer": self.claimed or self.issuer, "jwks_uri": f"{self.issuer}/keys"}
        )

    async def key_set(self, request: web.Request) -> web.Response:
        self.asked.append("keys")
        await self.gate.wait()
        body = self.body if self.body is not None else json.dumps({"keys": self.keys}).encode()
        return web.Response(
            body=body, status=self.status, headers=self.headers, content_type="application/json"
        )


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def published() -> AsyncIterator[tuple[Published, DiscoveredKeys, Clock]]:
    provider, clock = Published(), Clock()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", provider.discovery)
    app.router.add_get("/keys", provider.key_set)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.issuer = f"http://127.0.0.1:{runner.addresses[0][1]}"
    keys = DiscoveredKeys(provider.issuer, AuthSettings(fetch_timeout_s=5), clock=clock)
    try:
        yield provider, keys, clock
    finally:
        provider.gate.set()
        await keys.aclose()
        await runner.cleanup()


async def test_a_flood_of_unknown_key_ids_makes_one_request_in_ten_seconds() -> None:
    async with published() as (provider, keys, clock):
        known = provider.keys[0]["kid"]
        assert await keys.find(known) is not None
        assert provider.asked == ["discovery", "keys"]
        for moment in (1.0, 5.0, 9.9, 10.1, 15.0, 20.0):
            clock.now = moment
            found = await asyncio.gather(*(keys.find(f"unknown-{n}") for n in range(200)))
            assert set(found) == {None}
        assert provider.asked == ["discovery", "keys"] * 2
        assert keys.known(known) is not None


async def test_all_who_wait_wait_for_the_same_request() -> None:
    async with published() as (provider, keys, _):
        provider.gate.clear()
        waiting = [asyncio.create_task(keys.find(provider.keys[0]["kid"])) for _ in range(50)]
        await asyncio.sleep(0)
        # One that gives up takes nobody with it.
        waiting[0].cancel()
        provider.gate.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(key, PublicKey) for key in found[1:])
        assert provider.asked == ["discovery", "keys"]


async def test_old_keys_are_renewed_behind_the_callers_back() -> None:
    async with published() as (provider, keys, clock):
        provider.headers = {"cache-control": "public, max-age=120"}
        old = provider.keys[0]["kid"]
        assert await keys.find(old) is not None
        clock.now = 119
        assert keys.known(old) is not None
        assert provider.asked == ["discovery", "keys"]
        provider.keys = [jwk()]
        clock.now = 121
        assert keys.known(old) is not None
        await keys.renew()
        assert keys.known(old) is None
        assert keys.known(provider.keys[0]["kid"]) is not None


async def test_keys_that_could_not_be_renewed_end_some_day() -> None:
    async with published() as (provider, keys, clock):
        kid = provider.keys[0]["kid"]
        assert await keys.find(kid) is not None
        provider.status = 500
        clock.now = 80_000
        assert await keys.find(kid) is not None
        clock.now = 86_401
        with pytest.raises(UnavailableError, match="keys can't be had"):
            await keys.find(kid)


@pytest.mark.parametrize(
    "changes",
    [
        {"claimed": "https://other.example"},
        {"status": 404},
        {"status": 302, "headers": {"location": "/elsewhere"}},
        {"body": b"not json"},
        {"body": b"[]"},
        {"body": b"{}"},
        {"body": b"[" * 100_000},
        {"body": b" " * (1024 * 1024 + 1)},
        {"keys": [KNOWN | {"x5t": "\ud800"}]},
        {"keys": [KNOWN, {"\udfff": 1}]},
        {"keys": [KNOWN | {"note": float("nan")}]},
    ],
    # Named, because a key is another one in each process.
    ids=(
        "another issuer",
        "not found",
        "elsewhere",
        "not JSON",
        "no object",
        "nothing in it",
        "nested too deeply",
        "too large",
        "half a character in a key",
        "half a character in a name",
        "not a number",
    ),
)
async def test_an_answer_that_is_not_believed(changes: dict[str, Any]) -> None:
    async with published() as (provider, keys, _):
        for name, value in changes.items():
            setattr(provider, name, value)
        with pytest.raises(UnavailableError):
            await keys.find(provider.keys[0]["kid"])


async def test_the_key_that_unbelieved_answers_have_is_a_good_one() -> None:
    async with published() as (provider, keys, _):
        provider.keys = [KNOWN]
        assert await keys.find("known") is not None


def test_keys_of_no_use_are_passed_over() -> None:
    good = jwk()
    small = RSAAlgorithm(RSAAlgorithm.SHA256).to_jwk(
        rsa.generate_private_key(65537, 1024).public_key(), as_dict=True
    )  # fmt: skip
    listed = [
        good,
        jwk() | {"use": "enc"},
        jwk() | {"kid": 7},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"},
        jwk() | {"alg": "HS256"},
        jwk() | {"alg": "none"},
        jwk() | {"x": "!"},
        small | {"kid": "small"},
        "text",
        None,
    ]
    assert set(parse_key_set({"keys": listed})) == {good["kid"]}


def test_of_two_keys_with_one_id_the_first_counts() -> None:
    one, two = jwk(), jwk()
    two["kid"] = one["kid"]
    both = parse_key_set({"keys": [one, two]})
    assert list(both) == [one["kid"]]


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("https://login.example/tenant", True),
        ("http://127.0.0.1:8080", True),
        ("http://localhost/x", True),
        ("http://[::1]:1", True),
        ("http://login.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://localhost.evil.example", False),
        ("https://user:pw@login.example", False),
        ("file:///etc/passwd", False),
        ("ftp://login.example", False),
        ("https://", False),
        ("//login.example", False),
        ("", False),
        ("http://[", False),
    ],
)
def test_where_keys_may_come_from(url: str, *, is_safe: bool) -> None:
    assert is_safe_url(url) == is_safe
