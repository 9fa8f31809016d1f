"""Links that sign in once, and pages that stay signed in."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trunkline.auth.identity import Identity
from trunkline.auth.issuer import ISSUER, DevelopmentIssuer
from trunkline.auth.revocations import Revocations
from trunkline.auth.settings import AuthSettings
from trunkline.auth.verify import TokenVerifier, development
from trunkline.console.signin import (
    LINK_LIFETIME_S,
    SIGN_IN_LIFETIME_S,
    TOKEN_LIFETIME_S,
    SignIns,
    make_link,
)
from trunkline.protocol.errors import AuthenticationError

BASE = "http://127.0.0.1:8080"


class Place:
    """A state directory, and a clock that is moved by hand."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.now = 1_800_000_000.0
        self.issuer = DevelopmentIssuer.open(state_dir)
        self.revocations = Revocations()
        self.sign_ins = SignIns(
            state_dir, self.issuer, revocations=self.revocations, clock=lambda: self.now
        )

    def key(self, user: str = "olga", **lifetime: float) -> str:
        link = make_link(self.state_dir, BASE, user, clock=lambda: self.now, **lifetime)
        assert link.startswith(f"{BASE}/console/#key=")
        return link.partition("#key=")[2]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_a_link_signs_in_as_whom_it_was_made_for(place: Place) -> None:
    access = place.sign_ins.redeem(place.key("olga"))
    assert access.user == "olga"
    assert access.expires_in_s == TOKEN_LIFETIME_S
    settings = AuthSettings()
    verifier = TokenVerifier(settings, development(settings, place.issuer.jwks()))
    caller = await verifier.identify(f"Bearer {access.token}")
    assert (caller.identity.issuer, caller.identity.subject) == (ISSUER, "olga")


def test_a_link_works_once(place: Place) -> None:
    key = place.key()
    place.sign_ins.redeem(key)
    with pytest.raises(AuthenticationError, match="this link was used"):
        place.sign_ins.redeem(key)


def test_of_many_who_use_a_link_at_once_one_signs_in(place: Place) -> None:
    key = place.key()

    def attempt(_: int) -> int:
        try:
            place.sign_ins.redeem(key)
        except AuthenticationError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(32))) == 1


def test_a_link_gets_too_old(place: Place) -> None:
    key = place.key()
    place.now += LINK_LIFETIME_S
    with pytest.raises(AuthenticationError, match="too old"):
        place.sign_ins.redeem(key)


@pytest.mark.parametrize("key", ["", "x", "../../issuer.pem", "\ud800", "a" * 10_000])
def test_what_is_no_key_signs_nobody_in(place: Place, key: str) -> None:
    place.key()
    with pytest.raises(AuthenticationError):
        place.sign_ins.redeem(key)


def test_a_page_gets_further_tokens_until_the_day_is_over(place: Place) -> None:
    access = place.sign_ins.redeem(place.key("olga"))
    place.now += SIGN_IN_LIFETIME_S - 1
    renewed = place.sign_ins.renew(access.renewal)
    assert (renewed.user, renewed.renewal) == ("olga", access.renewal)
    assert renewed.token != access.token
    place.now += 1
    with pytest.raises(AuthenticationError, match="aren't signed in"):
        place.sign_ins.renew(access.renewal)


def test_who_signed_out_gets_no_further_token(place: Place) -> None:
    access = place.sign_ins.redeem(place.key())
    place.sign_ins.forget(access.renewal)
    place.sign_ins.forget(access.renewal)
    with pytest.raises(AuthenticationError):
        place.sign_ins.renew(access.renewal)


def test_a_key_doesnt_renew_and_a_renewal_doesnt_sign_in(place: Place) -> None:
    key = place.key()
    with pytest.raises(AuthenticationError):
        place.sign_ins.renew(key)
    access = place.sign_ins.redeem(key)
    with pytest.raises(AuthenticationError):
        place.sign_ins.redeem(access.renewal)


def test_signing_in_outlives_the_process(place: Place) -> None:
    access = place.sign_ins.redeem(place.key("olga"))
    later = SignIns(place.state_dir, place.issuer, clock=lambda: place.now)
    assert later.renew(access.renewal).user == "olga"
    assert later.redeem(place.key("otto")).user == "otto"


def test_what_is_kept_is_this_users_only_and_is_no_secret(place: Place) -> None:
    key = place.key()
    access = place.sign_ins.redeem(place.key())
    files = [path for path in (place.state_dir / "console").rglob("*") if path.is_file()]
    assert len(files) == 2
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        for secret in (key, access.renewal, access.token):
            assert secret not in f"{path}{path.read_text()}"


def test_what_is_too_old_is_swept_away(place: Place) -> None:
    for _ in range(5):
        place.key()
    place.now += LINK_LIFETIME_S
    place.key()
    assert len(list((place.state_dir / "console" / "links").iterdir())) == 1


def test_a_broken_file_signs_nobody_in_and_stops_nobody(place: Place) -> None:
    key = place.key()
    (path,) = (place.state_dir / "console" / "links").iterdir()
    path.write_text("{")
    with pytest.raises(AuthenticationError):
        place.sign_ins.redeem(key)
    path.write_text("[]")
    assert place.sign_ins.redeem(place.key()).user == "olga"


def test_who_is_revoked_gets_no_newer_token_from_a_page_that_is_open(place: Place) -> None:
    renewal = place.sign_ins.redeem(place.key("eve")).renewal
    others = place.sign_ins.redeem(place.key("olga")).renewal
    unused = place.key("eve")
    assert renewal is not None
    assert others is not None
    place.now += 60
    place.revocations.replace([(Identity(ISSUER, "eve"), place.now)])
    for attempt in (lambda: place.sign_ins.renew(renewal), lambda: place.sign_ins.redeem(unused)):
        with pytest.raises(AuthenticationError, match="revoked"):
            attempt()
    assert place.sign_ins.renew(others).user == "olga"
    # Whoever makes links makes a newer one only for somebody who may come in again.
    place.now += 60
    assert place.sign_ins.redeem(place.key("eve")).user == "eve"
