"""Where tokens come from, and when a credential is asked again."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from trunkline.client import Endpoint, Project, development_token
from trunkline.client._development import environment_token
from trunkline.client._tokens import SCOPE, CredentialToken, get_token, prepared


@dataclass
class AccessToken:
    token: str
    expires_on: int


class Credential:
    """A synchronous one, as ``azure-identity`` has them."""

    def __init__(self, lifetime_s: int = 3600) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.now_s = 1000.0
        self.lifetime_s = lifetime_s

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        self.asked.append(scopes)
        return AccessToken(f"token-{len(self.asked)}", int(self.now_s) + self.lifetime_s)


class AsyncCredential(Credential):
    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:  # type: ignore[override]
        await asyncio.sleep(0)
        return Credential.get_token(self, *scopes, **options)


@pytest.mark.parametrize("kind", [Credential, AsyncCredential])
async def test_a_credential_is_asked_again_shortly_before_its_token_ends(
    kind: type[Credential],
) -> None:
    credential = kind()
    source = CredentialToken(credential, now_s=lambda: credential.now_s)
    assert await source() == "token-1"
    credential.now_s += 3299
    assert await source() == "token-1"
    credential.now_s += 2
    assert await source() == "token-2"
    assert credential.asked == [(SCOPE,), (SCOPE,)]


async def test_concurrent_requests_ask_a_credential_once() -> None:
    credential = AsyncCredential(10**11)
    source = CredentialToken(credential)
    assert await asyncio.gather(source(), source(), source()) == ["token-1"] * 3
    assert len(credential.asked) == 1


async def test_a_project_takes_a_credential() -> None:
    seen = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers["authorization"])
        return httpx2.Response(200, json={"data": []})

    credential = Credential(10**11)
    transport = httpx2.MockTransport(answer)
    async with Project("https://host/", credential, transport=transport) as project:
        assert [agent async for agent in project.list_agents()] == []
        assert [agent async for agent in project.list_agents()] == []
    assert seen == ["Bearer token-1"] * 2
    assert len(credential.asked) == 1


async def test_a_function_is_called_for_each_request() -> None:
    given = iter(["one", "two"])
    source = prepared(lambda: next(given))
    assert [await get_token(source), await get_token(source)] == ["one", "two"]


def test_this_machines_issuer_is_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUNKLINE_HOME", str(tmp_path))
    here, there = Endpoint.parse("http://127.0.0.1:1/"), Endpoint.parse("https://host/")
    assert environment_token(there, {}) is None
    assert environment_token(here, {"TRUNKLINE_TOKEN": "given"}) == "given"
    source = environment_token(here, {})
    assert callable(source)
    claims = jwt.decode(str(source()), options={"verify_signature": False})
    assert claims["iss"] == "urn:trunkline:development"
    assert (tmp_path / "issuer.pem").exists()


def test_an_issuer_of_another_directory(tmp_path: Path) -> None:
    assert development_token(tmp_path)().count(".") == 2
    assert (tmp_path / "issuer.pem").exists()
