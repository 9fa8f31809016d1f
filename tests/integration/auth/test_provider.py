"""A real OpenID Connect provider: discovery, rotation, outage."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.oidc import CLIENT, OidcProvider
from trunkline.auth.caller import Caller
from trunkline.auth.discovery import DiscoveredKeys
from trunkline.auth.grants import Grants
from trunkline.auth.identity import Identity
from trunkline.auth.providers import load_providers
from trunkline.auth.settings import AuthSettings
from trunkline.auth.verify import TokenVerifier
from trunkline.protocol.errors import AuthenticationError, UnavailableError


@pytest.fixture
def provider() -> Iterator[OidcProvider]:
    provider = OidcProvider(olga={"groups": ["callers", "staff"]}, otto={}).start()
    try:
        yield provider
    finally:
        provider.stop()


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Verifier:
    """The platform's verifier, as configured for the provider."""

    def __init__(self, provider: OidcProvider, folder: Path, audience: str = CLIENT) -> None:
        file = folder / "providers.toml"
        file.write_text(
            f"""
            [[provider]]
            issuer = "{provider.issuer}"
            audiences = ["{audience}"]
            roles_claim = "groups"
            [provider.grants]
            callers = ["invoker@default"]
            """
        )
        settings = AuthSettings(providers_file=file, fetch_timeout_s=2)
        (configured,) = load_providers(settings)
        self.clock = Clock()
        self.keys = DiscoveredKeys(configured.discovery, settings, clock=self.clock)
        self._verifier = TokenVerifier(settings, [(configured, self.keys)])

    async def identify(self, token: str) -> Caller:
        return await self._verifier.identify(f"Bearer {token}")


async def test_a_token_of_the_provider_says_who_and_what(
    provider: OidcProvider, tmp_path: Path
) -> None:
    verifier = Verifier(provider, tmp_path)
    olga = await verifier.identify(provider.token("olga"))
    assert olga.identity == Identity(provider.issuer, "olga")
    assert olga.grants == Grants.parse(["invoker@default"])
    assert (await verifier.identify(provider.token("otto"))).grants == Grants()
    await verifier.keys.aclose()


async def test_a_token_for_another_application_is_refused(
    provider: OidcProvider, tmp_path: Path
) -> None:
    verifier = Verifier(provider, tmp_path, audience="another")
    with pytest.raises(AuthenticationError, match="another audience"):
        await verifier.identify(provider.token("olga"))
    await verifier.keys.aclose()


async def test_known_keys_go_on_while_the_provider_is_down_and_new_ones_are_picked_up(
    provider: OidcProvider, tmp_path: Path
) -> None:
    verifier = Verifier(provider, tmp_path)
    one, two = provider.token("olga"), provider.token("otto")
    assert (await verifier.identify(one)).identity.subject == "olga"
    provider.stop()
    # Nobody has seen this one, and an hour has gone by: its key is known, and old.
    verifier.clock.now += 3700
    assert (await verifier.identify(two)).identity.subject == "otto"
    await verifier.keys.renew()
    provider.start()
    three = provider.token("olga")
    assert three.split(".")[0] == one.split(".")[0]
    # It looked for keys a moment ago, in vain: not again yet.
    with pytest.raises(AuthenticationError):
        await verifier.identify(three)
    verifier.clock.now += 11
    assert (await verifier.identify(three)).identity.subject == "olga"
    # The old key is gone, and what it signed goes with it, remembered or not.
    for old in (one, two):
        with pytest.raises(AuthenticationError, match="doesn't verify"):
            await verifier.identify(old)
    await verifier.keys.aclose()


async def test_a_provider_that_was_never_reached(provider: OidcProvider, tmp_path: Path) -> None:
    token = provider.token("olga")
    verifier = Verifier(provider, tmp_path)
    provider.stop()
    answers = await asyncio.gather(
        *(verifier.identify(token) for _ in range(20)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {UnavailableError}
    provider.start()
    verifier.clock.now += 11
    assert (await verifier.identify(provider.token("olga"))).identity.subject == "olga"
    await verifier.keys.aclose()
