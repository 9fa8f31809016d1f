"""Which tokens say who is calling, and which are refused."""

import asyncio
import base64
import dataclasses
import datetime as dt
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from trunkline.auth.caller import Caller
from trunkline.auth.compact import MAX_TOKEN_CHARS
from trunkline.auth.identity import Identity
from trunkline.auth.issuer import ALGORITHM, DEFAULT_AUDIENCE, ISSUER, DevelopmentIssuer
from trunkline.auth.keys import FixedKeys
from trunkline.auth.settings import AuthSettings
from trunkline.auth.verify import TokenVerifier, development
from trunkline.protocol.errors import AuthenticationError

SUBJECT = "somebody-with-a-telling-name"


class Verifier:
    """A verifier of issuers that are like the development issuer, each with its keys."""

    def __init__(self, settings: AuthSettings, keys: dict[str, list[dict[str, Any]]]) -> None:
        ((provider, _),) = development(settings, {"keys": []})
        self.verifier = TokenVerifier(
            settings,
            [
                (dataclasses.replace(
                    provider, issuer=name, identity_issuer=name,
                    algorithms=frozenset({"ES256", "RS256"}),
                 ),
                 FixedKeys({"keys": jwks}))
                for name, jwks in keys.items()
            ],
        )  # fmt: skip

    def identify(self, authorization: str | None) -> Caller:
        return asyncio.run(self.verifier.identify(authorization))


@pytest.fixture
def issuer() -> DevelopmentIssuer:
    return DevelopmentIssuer(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def verifier(issuer: DevelopmentIssuer) -> "Verifier":
    return Verifier(AuthSettings(), {ISSUER: issuer.jwks()["keys"]})


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims, with changes; a claim changed to None is left out."""
    good = {
        "iss": ISSUER,
        "aud": DEFAULT_AUDIENCE,
        "sub": SUBJECT,
        "exp": now() + dt.timedelta(hours=1),
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def sign(issuer: DevelopmentIssuer, kid: str | None = None, **changes: Any) -> str:
    headers = {"kid": kid or issuer.public_jwk["kid"]}
    return jwt.encode(claims(**changes), issuer._key, ALGORITHM, headers=headers)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hand_made(header: dict[str, Any], payload: dict[str, Any] | bytes, signature: bytes) -> str:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return f"{b64(json.dumps(header).encode())}.{b64(body)}.{b64(signature)}"


def plain_claims(**changes: Any) -> dict[str, Any]:
    return claims(exp=int(now().timestamp()) + 3600, **changes)


def refused(verifier: "Verifier", token: str, scheme: str = "Bearer") -> str:
    """Have a token refused; return the words, once they are known to hold nothing of it."""
    with pytest.raises(AuthenticationError) as caught:
        verifier.identify(f"{scheme} {token}")
    words = str(caught.value)
    assert (caught.value.status, caught.value.code) == (401, "unauthenticated")
    assert SUBJECT not in words
    for part in (token, *token.split(".")):
        assert len(part) < 4 or part not in words
    return words


def test_what_is_issued_verifies(issuer: DevelopmentIssuer, verifier: "Verifier") -> None:
    assert verifier.identify(f"Bearer {issuer.issue('me')}").identity == Identity(ISSUER, "me")


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer ", "bEaReR"])
def test_the_scheme_has_no_case(
    issuer: DevelopmentIssuer, verifier: "Verifier", scheme: str
) -> None:
    assert verifier.identify(f"{scheme} {issuer.issue('me')}").identity.subject == "me"


def test_tokens_of_one_user_differ(issuer: DevelopmentIssuer) -> None:
    assert issuer.issue("me") != issuer.issue("me")


@pytest.mark.parametrize("expires_in_s", [0, -1, -3600])
def test_an_expired_token(
    issuer: DevelopmentIssuer, verifier: "Verifier", expires_in_s: int
) -> None:
    assert "expired" in refused(verifier, issuer.issue(SUBJECT, expires_in_s))


def test_leeway_allows_for_clocks_that_differ(issuer: DevelopmentIssuer) -> None:
    lenient = Verifier(AuthSettings(leeway_s=60), {ISSUER: issuer.jwks()["keys"]})
    assert lenient.identify(f"Bearer {issuer.issue('me', -5)}").identity.subject == "me"
    assert "expired" in refused(lenient, issuer.issue(SUBJECT, -3600))


def test_a_token_is_recalled_for_as_long_as_it_holds(issuer: DevelopmentIssuer) -> None:
    at = now().timestamp()
    verifier = TokenVerifier(
        AuthSettings(leeway_s=0), development(AuthSettings(), issuer.jwks()), clock=lambda: at
    )
    token = issuer.issue("me", 60)
    digest = hashlib.sha256(token.encode()).digest()
    assert verifier.recall(digest) is None
    caller = asyncio.run(verifier.identify(f"Bearer {token}"))
    assert verifier.recall(digest) is caller
    assert verifier.recall(digest[:-1] + b"?") is None
    at = caller.expires_at
    assert verifier.recall(digest) is None


def test_a_token_from_the_future(issuer: DevelopmentIssuer, verifier: "Verifier") -> None:
    token = sign(issuer, nbf=now() + dt.timedelta(minutes=5))
    assert "isn't valid yet" in refused(verifier, token)


def test_another_audience_names_the_right_one(
    issuer: DevelopmentIssuer, verifier: "Verifier"
) -> None:
    assert DEFAULT_AUDIENCE in refused(verifier, issuer.issue(SUBJECT, audience="https://else"))


def test_the_right_audience_among_others(issuer: DevelopmentIssuer, verifier: "Verifier") -> None:
    token = sign(issuer, aud=["https://else", DEFAULT_AUDIENCE])
    assert verifier.identify(f"Bearer {token}").identity.subject == SUBJECT


def test_an_issuer_nobody_trusts(issuer: DevelopmentIssuer, verifier: "Verifier") -> None:
    assert "isn't known here" in refused(verifier, sign(issuer, iss="https://evil.example"))


def test_an_issuer_may_not_sign_for_another() -> None:
    one, two = (DevelopmentIssuer(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))
    keys = {"urn:one": one.jwks()["keys"], "urn:two": two.jwks()["keys"]}
    verifier = Verifier(AuthSettings(), keys)
    assert verifier.identify(f"Bearer {sign(two, iss='urn:two')}").identity.issuer == "urn:two"
    assert "isn't known here" in refused(verifier, sign(two, iss="urn:one"))


def test_an_unknown_key_id(issuer: DevelopmentIssuer, verifier: "Verifier") -> None:
    assert "key id isn't known here" in refused(verifier, sign(issuer, kid="other-key-id"))


def test_no_key_id(issuer: DevelopmentIssuer, verifier: "Verifier") -> None:
    token = jwt.encode(claims(), issuer._key, ALGORITHM)
    assert "key id isn't known here" in refused(verifier, token)


def test_a_known_key_id_on_another_key(issuer: DevelopmentIssuer, verifier: "Verifier") -> None:
    other = DevelopmentIssuer(ec.generate_private_key(ec.SECP256R1()))
    assert "doesn't verify" in refused(verifier, sign(other, kid=issuer.public_jwk["kid"]))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None])
def test_an_unsigned_token(
    issuer: DevelopmentIssuer, verifier: "Verifier", algorithm: str | None
) -> None:
    header = {"typ": "JWT", "alg": algorithm, "kid": issuer.public_jwk["kid"]}
    refused(verifier, hand_made(header, plain_claims(), b""))


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_shared_secret_made_of_the_public_key(
    issuer: DevelopmentIssuer, verifier: "Verifier", encoding: Encoding
) -> None:
    secret = issuer._key.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    header = {"typ": "JWT", "alg": "HS256", "kid": issuer.public_jwk["kid"]}
    unsigned = hand_made(header, plain_claims(), b"").removesuffix(".")
    signature = hmac.new(secret, unsigned.encode(), hashlib.sha256).digest()
    assert "isn't allowed" in refused(verifier, f"{unsigned}.{b64(signature)}")


def test_an_allowed_algorithm_that_is_not_the_keys(
    issuer: DevelopmentIssuer, verifier: "Verifier"
) -> None:
    header = {"typ": "JWT", "alg": "RS256", "kid": issuer.public_jwk["kid"]}
    words = refused(verifier, hand_made(header, plain_claims(), b"x" * 256))
    assert "isn't the one its key is for" in words


def test_a_tampered_signature(issuer: DevelopmentIssuer, verifier: "Verifier") -> None:
    head, payload, signature = issuer.issue(SUBJECT).split(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    for index in (0, 31, 32, 63):
        changed = bytearray(raw)
        changed[index] ^= 1
        words = refused(verifier, f"{head}.{payload}.{b64(bytes(changed))}")
        assert "doesn't verify" in words


def test_a_tampered_payload(issuer: DevelopmentIssuer, verifier: "Verifier") -> None:
    head, _, signature = issuer.issue(SUBJECT).split(".")
    payload = b64(json.dumps(plain_claims(sub="root")).encode())
    assert "doesn't verify" in refused(verifier, f"{head}.{payload}.{signature}")


@pytest.mark.parametrize("claim", ["exp", "sub", "aud"])
def test_a_missing_claim_is_named(
    issuer: DevelopmentIssuer, verifier: "Verifier", claim: str
) -> None:
    assert f"`{claim}`" in refused(verifier, sign(issuer, **{claim: None}))


def test_a_missing_issuer(issuer: DevelopmentIssuer, verifier: "Verifier") -> None:
    refused(verifier, sign(issuer, iss=None))


@pytest.mark.parametrize("changes", [{"sub": 7}, {"exp": "soon"}, {"nbf": "later"}])
def test_claims_of_the_wrong_type(
    issuer: DevelopmentIssuer, verifier: "Verifier", changes: dict[str, Any]
) -> None:
    header = {"typ": "JWT", "alg": ALGORITHM, "kid": issuer.public_jwk["kid"]}
    unsigned = hand_made(header, {**plain_claims(), **changes}, b"").removesuffix(".")
    algorithm = jwt.get_algorithm_by_name(ALGORITHM)
    signature = algorithm.sign(unsigned.encode(), issuer._key)
    refused(verifier, f"{unsigned}.{b64(signature)}")


@pytest.mark.parametrize(
    "token",
    ["garbage", "a.b", "a.b.c", "....", "e30.e30.", "\xff\xfe", "e30.W10.AAAA", "null.null.null",
     "eyJhbGciOjd9.e30.AAAA", "eyJhbGciOlsiRVMyNTYiXX0.e30.AAAA", "W10.e30.AAAA"],
)  # fmt: skip
def test_what_is_not_a_token(verifier: "Verifier", token: str) -> None:
    refused(verifier, token)


def test_json_nested_too_deeply_to_be_read(issuer: DevelopmentIssuer, verifier: "Verifier") -> None:
    header = {"typ": "JWT", "alg": ALGORITHM, "kid": issuer.public_jwk["kid"]}
    deep = b'{"iss":' + b"[" * 5500 + b"]" * 5500 + b"}"
    token = hand_made(header, deep, b"x" * 64)
    assert len(token) < MAX_TOKEN_CHARS
    refused(verifier, token)


def test_a_number_with_too_many_digits_to_be_read(
    issuer: DevelopmentIssuer, verifier: "Verifier"
) -> None:
    header = {"typ": "JWT", "alg": ALGORITHM, "kid": issuer.public_jwk["kid"]}
    refused(verifier, hand_made(header, b'{"exp":' + b"9" * 6000 + b"}", b"x" * 64))


def test_a_token_of_20_kb(issuer: DevelopmentIssuer, verifier: "Verifier") -> None:
    token = sign(issuer, padding="x" * 20_000)
    assert str(MAX_TOKEN_CHARS) in refused(verifier, token)


@pytest.mark.parametrize("authorization", [None, ""])
def test_no_header_at_all_says_how_to_get_a_token(
    verifier: "Verifier", authorization: str | None
) -> None:
    with pytest.raises(AuthenticationError, match="trunkline token"):
        verifier.identify(authorization)


@pytest.mark.parametrize("authorization", ["Bearer", "Bearer ", "Bearer    ", " "])
def test_a_header_without_a_token(verifier: "Verifier", authorization: str) -> None:
    with pytest.raises(AuthenticationError, match="Bearer TOKEN"):
        verifier.identify(authorization)


@pytest.mark.parametrize("scheme", ["Basic", "Negotiate", "Token", "Bearer,"])
def test_another_scheme(issuer: DevelopmentIssuer, verifier: "Verifier", scheme: str) -> None:
    assert "Bearer TOKEN" in refused(verifier, issuer.issue(SUBJECT), scheme)


def test_a_verifier_without_keys_knows_nobody(issuer: DevelopmentIssuer) -> None:
    refused(Verifier(AuthSettings(), {}), issuer.issue(SUBJECT))


def test_a_key_reopened_verifies_what_it_signed_before(tmp_path: Path) -> None:
    token = DevelopmentIssuer.open(tmp_path).issue("me")
    again = DevelopmentIssuer.open(tmp_path)
    verifier = Verifier(AuthSettings(), {ISSUER: again.jwks()["keys"]})
    assert verifier.identify(f"Bearer {token}").identity.subject == "me"


@pytest.mark.parametrize("settings", [{"audience": ""}, {"leeway_s": -1}, {"leeway_s": 301}])
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        AuthSettings(**settings)
