"""Opaque tokens, and how often their provider is asked about them."""

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from trunkline.auth.grants import Grants
from trunkline.auth.introspection import IntrospectedTokens
from trunkline.auth.providers import load_providers
from trunkline.auth.settings import AuthSettings
from trunkline.auth.verify import TokenVerifier
from trunkline.protocol.errors import AuthenticationError, UnavailableError

NOW = 1_000_000.0
GOOD = {
    "active": True, "sub": "olga", "aud": "https://ai.azure.com", "exp": NOW + 600,
    "scope": "invoker", "iat": NOW - 5,
}  # fmt: skip


class Asked:
    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {"opaque-good": GOOD}
        self.tokens: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.status = 200
        self.busy = asyncio.Event()

    async def introspect(self, request: web.Request) -> web.Response:
        form = await request.post()
        token = str(form["token"])
        self.tokens.append(token)
        if len(self.tokens) == 8:
            self.busy.set()
        expected = "Basic " + b64encode(b"trunkline:s3cret").decode()
        assert request.headers["authorization"] == expected
        await self.gate.wait()
        return web.json_response(self.known.get(token, {"active": False}), status=self.status)


@contextlib.asynccontextmanager
async def asked(tmp_path: Path) -> AsyncIterator[tuple[Asked, TokenVerifier, list[float]]]:
    provider, moment = Asked(), [NOW]
    app = web.Application()
    app.router.add_post("/introspect", provider.introspect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    (tmp_path / "secret").write_text("s3cret\n")
    file = tmp_path / "providers.toml"
    file.write_text(
        f"""
        [[provider]]
        issuer = "{url}"
        roles_claim = "scope"
        introspection_endpoint = "{url}/introspect"
        client_id = "trunkline"
        client_secret_file = "secret"
        """
    )
    settings = AuthSettings(providers_file=file, fetch_timeout_s=5)
    (configured,) = load_providers(settings)
    assert configured.introspection is not None
    opaque = IntrospectedTokens(
        configured, configured.introspection, settings, clock=lambda: moment[0]
    )
    try:
        yield provider, TokenVerifier(settings, [], opaque=[opaque]), moment
    finally:
        provider.gate.set()
        await runner.cleanup()


async def test_its_provider_says_whose_a_token_is_and_is_asked_once(tmp_path: Path) -> None:
    async with asked(tmp_path) as (provider, verifier, moment):
        callers = await asyncio.gather(
            *(verifier.identify("Bearer opaque-good") for _ in range(20))
        )
        assert {caller.identity.subject for caller in callers} == {"olga"}
        assert callers[0].grants == Grants.parse(["invoker"])
        assert callers[0].expires_at == NOW + 600
        for _ in range(2):
            with pytest.raises(AuthenticationError, match="doesn't know it"):
                await verifier.identify("Bearer opaque-bad")
        assert provider.tokens == ["opaque-good", "opaque-bad"]
        # Revoked there: here it ends half a minute later.
        provider.known = {}
        moment[0] += 29
        await verifier.identify("Bearer opaque-good")
        moment[0] += 2
        with pytest.raises(AuthenticationError):
            await verifier.identify("Bearer opaque-good")


@pytest.mark.parametrize(
    "changes",
    [{"active": "true"}, {"active": 1}, {"exp": NOW - 1}, {"exp": None}, {"exp": "later"},
     {"aud": "https://other.example"}, {"aud": None}, {"sub": None}, {"iss": "https://other"}],
    ids=str,
)  # fmt: skip
async def test_an_answer_that_lets_nobody_in(tmp_path: Path, changes: dict[str, Any]) -> None:
    async with asked(tmp_path) as (provider, verifier, _):
        provider.known["opaque-good"] = GOOD | changes
        with pytest.raises(AuthenticationError):
            await verifier.identify("Bearer opaque-good")


async def test_a_provider_that_fails_is_asked_again(tmp_path: Path) -> None:
    async with asked(tmp_path) as (provider, verifier, _):
        provider.status = 500
        with pytest.raises(UnavailableError, match="doesn't answer"):
            await verifier.identify("Bearer opaque-good")
        provider.status = 200
        await verifier.identify("Bearer opaque-good")


async def test_a_flood_of_made_up_tokens_is_bounded(tmp_path: Path) -> None:
    async with asked(tmp_path) as (provider, verifier, _):
        provider.gate.clear()
        flood = [asyncio.create_task(verifier.identify(f"Bearer made-up-{n}")) for n in range(500)]
        await provider.busy.wait()
        done = [task for task in flood if task.done()]
        assert len(done) == 500 - 72
        assert all(isinstance(task.exception(), UnavailableError) for task in done)
        assert len(provider.tokens) == 8
        provider.gate.set()
        await asyncio.gather(*flood, return_exceptions=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"active": "true"}, {"active": 1}, {"exp": None}, {"exp": "1e9"}, {"exp": True},
        {"exp": float("inf")}, {"exp": float("nan")}, {"exp": 10**400}, {"exp": [NOW + 600]},
        {"iat": "soon"}, {"iat": 10**400}, {"iat": float("nan")}, {"iat": NOW + 600},
        {"nbf": NOW + 600}, {"nbf": "later"},
        {"aud": 7}, {"aud": True}, {"aud": {"https://ai.azure.com": 1}},
        {"aud": [["https://ai.azure.com"]]}, {"aud": [{}]}, {"aud": None},
        {"iss": ["x"]}, {"iss": None}, {"iss": "https://other.example"},
        {"sub": None}, {"sub": 7}, {"sub": ["olga"]}, {"sub": "olga\n"}, {"sub": "\ud800"},
    ],
    ids=str,
)  # fmt: skip
async def test_an_answer_of_an_odd_kind_lets_nobody_in(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    async with asked(tmp_path) as (provider, verifier, _):
        provider.known["odd"] = GOOD | changes
        with pytest.raises(AuthenticationError):
            await verifier.identify("Bearer odd")
