"""Signing in with a real OpenID Connect provider that insists on PKCE, without a browser."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from tests.support.oidc import StrictProvider
from trunkline.auth.discovery import DiscoveredKeys
from trunkline.auth.providers import load_providers
from trunkline.auth.settings import AuthSettings
from trunkline.auth.verify import TokenVerifier
from trunkline.console.oauth import ProviderClient
from trunkline.console.provider import PREFIX, Answer, ProviderSignIn
from trunkline.console.settings import ConsoleSettings
from trunkline.protocol.errors import AuthenticationError, UnavailableError

BACK = "https://trunkline.example/console/"
AUDIENCE = "https://trunkline.example"
VERIFIER = "v" * 43


@pytest.fixture(scope="module")
def provider() -> Iterator[StrictProvider]:
    users = {"olga": {"preferred_username": "Olga", "roles": ["invoker@default"]}, "otto": {}}
    provider = StrictProvider(AUDIENCE, 300, **users).start()
    provider.add_client("public", BACK)
    provider.add_client("confidential", BACK, secret="s3cret/+")
    provider.add_client("another", BACK)
    try:
        yield provider
    finally:
        provider.stop()


class Place:
    """A platform's console, as configured for the provider."""

    def __init__(self, provider: StrictProvider, folder: Path, **settings: str) -> None:
        self.provider = provider
        self.folder = folder
        file = folder / "providers.toml"
        audience = settings.pop("audience", AUDIENCE)
        file.write_text(f'[[provider]]\nissuer = "{provider.issuer}"\naudiences = ["{audience}"]\n')
        secret = settings.pop("secret", "")
        auth = AuthSettings(providers_file=file, fetch_timeout_s=2, key_refresh_min_s=0)
        (trusted,) = load_providers(auth)
        self.keys = DiscoveredKeys(trusted.discovery, auth)
        console = ConsoleSettings(issuer=provider.issuer, **{"client_id": "public"} | settings)
        client = ProviderClient(trusted.discovery, console, auth, secret)
        verifier = TokenVerifier(auth, [(trusted, self.keys)])
        self.sign_in = ProviderSignIn(
            client, trusted, self.keys, verifier=verifier, state_dir=folder
        )

    def answer(self, user: str = "olga", *, client: str = "public", nonce: str = "n1") -> Answer:
        """Do what a browser does; return what the page gets."""
        digest = hashlib.sha256(VERIFIER.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": client,
            "redirect_uri": BACK,
            "scope": "openid profile",
            "state": "s",
            "nonce": nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        with httpx2.Client(base_url=self.provider.issuer, trust_env=False) as http:
            got = http.post("/oauth2/authorize", params=query, data={"sub": user})
        (code,) = parse_qs(urlsplit(got.headers["location"]).query)["code"]
        return Answer(code=code, verifier=VERIFIER, nonce=nonce, redirect_uri=BACK)


@pytest.fixture
async def place(provider: StrictProvider, tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(provider, tmp_path)
    yield place
    await place.keys.aclose()


def changed(answer: Answer, **what: str) -> Answer:
    names = ("code", "verifier", "nonce", "redirect_uri")
    return Answer(**{name: getattr(answer, name) for name in names} | what)


async def test_a_code_signs_in_and_a_page_gets_no_refresh_token(place: Place) -> None:
    access = await place.sign_in.redeem(place.answer())
    assert access.user == "Olga"
    assert 280 < access.expires_in_s <= 300
    assert access.renewal is not None
    (refresh,) = place.provider.refresh_tokens()[-1:]
    assert refresh not in f"{access}"
    (kept,) = (place.folder / "console" / "provider").iterdir()
    for secret in (refresh, access.token, access.renewal.removeprefix(PREFIX)):
        assert secret not in f"{kept}{kept.read_text()}"


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({"verifier": "w" * 43}, "Code challenge failed"),
        ({"code": "made-up"}, "refuses"),
        ({"nonce": "of-another"}, "another sign-in"),
        ({"redirect_uri": "https://elsewhere.example/"}, "refuses"),
    ],
)
async def test_what_somebody_else_brings_signs_nobody_in(
    place: Place, what: dict[str, str], why: str
) -> None:
    with pytest.raises(AuthenticationError, match=why):
        await place.sign_in.redeem(changed(place.answer(), **what))


async def test_a_code_is_good_once_and_for_its_own_client(place: Place) -> None:
    answer = place.answer()
    await place.sign_in.redeem(answer)
    with pytest.raises(AuthenticationError):
        await place.sign_in.redeem(answer)
    with pytest.raises(AuthenticationError):
        await place.sign_in.redeem(place.answer(client="another"))


async def test_a_client_with_a_secret(provider: StrictProvider, tmp_path: Path) -> None:
    place = Place(provider, tmp_path, client_id="confidential", secret="s3cret/+")
    access = await place.sign_in.redeem(place.answer(client="confidential"))
    assert access.renewal is not None
    assert (await place.sign_in.renew(access.renewal)).user == "Olga"
    await place.keys.aclose()
    wrong = Place(provider, tmp_path, client_id="confidential", secret="guessed")
    with pytest.raises(AuthenticationError, match="refuses"):
        await wrong.sign_in.redeem(wrong.answer(client="confidential"))
    await wrong.keys.aclose()


async def test_a_token_the_platform_doesnt_take_is_said_at_once(
    provider: StrictProvider, tmp_path: Path
) -> None:
    place = Place(provider, tmp_path, audience="https://another.example")
    with pytest.raises(AuthenticationError, match=r"another audience.*TRUNKLINE_CONSOLE_CALL_WITH"):
        await place.sign_in.redeem(place.answer())
    await place.keys.aclose()


async def test_the_id_token_can_be_what_calls_are_made_with(
    provider: StrictProvider, tmp_path: Path
) -> None:
    place = Place(provider, tmp_path, audience="public", call_with="id_token")
    access = await place.sign_in.redeem(place.answer())
    assert access.user == "Olga"
    # This provider's refresh tokens give access tokens alone.
    assert access.renewal is not None
    with pytest.raises(AuthenticationError, match="gave no id token"):
        await place.sign_in.renew(access.renewal)
    await place.keys.aclose()


async def test_a_refresh_token_that_is_good_once_serves_two_tabs(place: Place) -> None:
    access = await place.sign_in.redeem(place.answer())
    assert access.renewal is not None
    renewed = await asyncio.gather(*(place.sign_in.renew(access.renewal) for _ in range(4)))
    assert len({access.token, *(each.token for each in renewed)}) == 5
    assert {each.renewal for each in renewed} == {access.renewal}


async def test_what_the_provider_ended_isnt_renewed(place: Place) -> None:
    access = await place.sign_in.redeem(place.answer("otto"))
    assert access.renewal is not None
    url = f"{place.provider.issuer}/users/otto/revoke-tokens"
    httpx2.post(url, trust_env=False).raise_for_status()
    with pytest.raises(AuthenticationError, match="refuses"):
        await place.sign_in.renew(access.renewal)
    with pytest.raises(AuthenticationError, match="aren't signed in"):
        await place.sign_in.renew(access.renewal)


async def test_who_signs_out_has_the_refresh_token_revoked(place: Place) -> None:
    access = await place.sign_in.redeem(place.answer())
    assert access.renewal is not None
    before = place.provider.refresh_tokens()
    await place.sign_in.forget(access.renewal)
    assert len(place.provider.refresh_tokens()) == len(before) - 1
    await place.sign_in.forget(access.renewal)
    with pytest.raises(AuthenticationError, match="aren't signed in"):
        await place.sign_in.renew(access.renewal)


async def test_while_the_provider_is_down_nobody_signs_in_and_nobody_is_signed_out(
    tmp_path: Path,
) -> None:
    provider = StrictProvider(AUDIENCE, 300, olga={}).start()
    provider.add_client("public", BACK)
    place = Place(provider, tmp_path)
    assert (await place.sign_in.invitation())["authorization_endpoint"].startswith(provider.issuer)
    access = await place.sign_in.redeem(place.answer())
    assert access.renewal is not None
    answer = place.answer()
    provider.stop()
    with pytest.raises(UnavailableError):
        await place.sign_in.redeem(answer)
    with pytest.raises(UnavailableError):
        await place.sign_in.renew(access.renewal)
    never = Place(provider, tmp_path)
    assert "doesn't answer" in (await never.sign_in.invitation())["problem"]
    # It is tried again then: the sign-in is still there.
    assert len(list((tmp_path / "console" / "provider").iterdir())) == 1
    await place.keys.aclose()
    await never.keys.aclose()
