"""Tokens made to get in: each is refused, and makes nobody fetch anything."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from trunkline.auth.caller import Caller
from trunkline.auth.claims import ClaimsMapping
from trunkline.auth.keys import FixedKeys, PublicKey
from trunkline.auth.providers import Provider
from trunkline.auth.settings import AuthSettings
from trunkline.auth.verify import TokenVerifier
from trunkline.protocol.errors import AuthenticationError

ISSUER, AUDIENCE = "https://login.example", "https://ai.azure.com"
#: In seconds, and later than any test runs: what is collected must not depend on the time.
FAR = 4_000_000_000
KEY = rsa.generate_private_key(65537, 2048)
EVIL = rsa.generate_private_key(65537, 2048)
JWK = RSAAlgorithm(RSAAlgorithm.SHA256).to_jwk(KEY.public_key(), as_dict=True) | {"kid": "k1"}
EVIL_JWK = RSAAlgorithm(RSAAlgorithm.SHA256).to_jwk(EVIL.public_key(), as_dict=True)


class WatchedKeys(FixedKeys):
    """The issuer's keys, and which were asked for."""

    def __init__(self) -> None:
        super().__init__({"keys": [JWK]})
        self.asked: list[str] = []

    async def find(self, key_id: str) -> PublicKey | None:
        self.asked.append(key_id)
        return await super().find(key_id)


def verifier_with(keys: FixedKeys, **changes: Any) -> TokenVerifier:
    provider = Provider(
        issuer=ISSUER, identity_issuer=ISSUER, discovery=ISSUER, jwks_uri="",
        audiences=frozenset({AUDIENCE}), algorithms=frozenset({"RS256", "ES256"}), leeway_s=0,
        claims=ClaimsMapping(), fixed_claims=changes.pop("fixed_claims", {}),
    )  # fmt: skip
    return TokenVerifier(AuthSettings(**changes), [(provider, keys)])


def claims(**changes: Any) -> dict[str, Any]:
    return {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "olga", "exp": int(time.time()) + 600,
    } | changes  # fmt: skip


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(key: Any = KEY, algorithm: str = "RS256", **headers: Any) -> str:
    return jwt.encode(claims(), key, algorithm, headers={"kid": "k1"} | headers)


async def refused(token: str, **changes: Any) -> WatchedKeys:
    keys = WatchedKeys()
    with pytest.raises(AuthenticationError) as caught:
        await verifier_with(keys, **changes).identify(f"Bearer {token}")
    assert "olga" not in str(caught.value)
    return keys


async def test_the_good_token_that_the_others_are_made_of_gets_in() -> None:
    caller = await verifier_with(WatchedKeys()).identify(f"Bearer {signed()}")
    assert caller.identity.subject == "olga"


async def test_a_known_keys_token_is_looked_at_without_waiting() -> None:
    keys = WatchedKeys()
    verifier = verifier_with(keys)
    for _ in range(2):
        caller = verifier.look(f"Bearer {signed()}")
        assert isinstance(caller, Caller)
        assert caller.identity.subject == "olga"
    assert keys.asked == []


async def test_a_key_that_has_to_be_looked_for_is_asked_for_by_who_waits() -> None:
    keys = WatchedKeys()
    later = verifier_with(keys).look(f"Bearer {signed(kid='k2')}")
    assert callable(later)
    assert keys.asked == []
    keys._keys["k2"] = keys._keys["k1"]
    assert (await later()).identity.subject == "olga"
    assert keys.asked == ["k2"]


async def test_a_key_found_meanwhile_lets_nobody_in_by_a_bad_signature() -> None:
    keys = WatchedKeys()
    later = verifier_with(keys).look(f"Bearer {signed(EVIL, kid='k2')}")
    assert callable(later)
    keys._keys["k2"] = keys._keys["k1"]
    with pytest.raises(AuthenticationError, match="doesn't verify"):
        await later()


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
async def test_the_public_key_as_a_shared_secret(encoding: Encoding) -> None:
    secret = KEY.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    unsigned = (
        b64(json.dumps({"alg": "HS256", "kid": "k1"}).encode())
        + "." + b64(json.dumps(claims()).encode())
    )  # fmt: skip
    signature = hmac.new(secret, unsigned.encode(), hashlib.sha256).digest()
    keys = await refused(f"{unsigned}.{b64(signature)}")
    assert keys.asked == []


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "nOnE", "HS512", "RS1", "RS384", "PS256", ""]
)
async def test_an_algorithm_that_is_not_allowed(algorithm: str) -> None:
    head, body, signature = signed().split(".")
    del head
    other = b64(json.dumps({"alg": algorithm, "kid": "k1"}).encode())
    for each in (signature, "", b64(b"\0")):
        await refused(f"{other}.{body}.{each}")


async def test_an_allowed_algorithm_with_a_key_of_another_kind() -> None:
    await refused(signed(ec.generate_private_key(ec.SECP256R1()), "ES256"))


@pytest.mark.parametrize(
    "headers",
    [
        {"jwk": EVIL_JWK},
        {"jku": "https://evil.example/keys"},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"jwk": EVIL_JWK | {"kid": "k2"}, "kid": "k2"},
    ],
    ids=lambda headers: "+".join(headers),
)
async def test_a_key_that_the_token_brings_along(headers: dict[str, Any]) -> None:
    await refused(signed(EVIL, **headers))


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null", "/etc/passwd", "file:///dev/null", "https://evil.example/keys",
        "' or 1=1 --", "k1\0", "K1", "k1 ", " k1", "", "x" * 600, "x" * 9000, "\u212a1", "${k1}",
    ],
)  # fmt: skip
async def test_a_key_id_is_looked_up_and_nothing_else(kid: str) -> None:
    keys = await refused(signed(EVIL, kid=kid))
    assert all(len(asked) <= 512 for asked in keys.asked)


@pytest.mark.parametrize("kid", [None, 7, ["k1"], {"kid": "k1"}, True])
async def test_a_key_id_that_is_no_text(kid: Any) -> None:
    body = b64(json.dumps(claims()).encode())
    head = b64(json.dumps({"alg": "RS256", "kid": kid}).encode())
    algorithm = jwt.get_algorithm_by_name("RS256")
    signature = algorithm.sign(f"{head}.{body}".encode(), KEY)
    await refused(f"{head}.{body}.{b64(signature)}")


@pytest.mark.parametrize("headers", [{"crit": ["exp"]}, {"crit": []}, {"b64": False}])
async def test_what_a_token_demands_to_be_understood(headers: dict[str, Any]) -> None:
    head = b64(json.dumps({"alg": "RS256", "kid": "k1"} | headers).encode())
    body = b64(json.dumps(claims()).encode())
    signature = jwt.get_algorithm_by_name("RS256").sign(f"{head}.{body}".encode(), KEY)
    await refused(f"{head}.{body}.{b64(signature)}")


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://other.example"}, {"aud": []}, {"aud": None}, {"aud": {AUDIENCE: 1}},
        {"aud": AUDIENCE.upper()}, {"aud": f"{AUDIENCE}/"}, {"iss": f"{ISSUER}/"},
        {"iss": "https://login.example.evil.example"}, {"iss": [ISSUER]}, {"iss": None},
        {"exp": 0}, {"exp": None}, {"exp": "9999999999"}, {"exp": True}, {"exp": [9999999999]},
        {"nbf": FAR}, {"nbf": "never"}, {"iat": FAR},
        {"sub": ""}, {"sub": None}, {"sub": 7}, {"sub": ["olga"]},
        {"exp": 10**400}, {"nbf": 10**400}, {"iat": 10**400}, {"exp": 2**60}, {"exp": 1e300},
        {"nbf": -(10**400)}, {"nbf": False}, {"iat": True}, {"nbf": {"at": 1}}, {"aud": True},
        {"aud": [[AUDIENCE]]}, {"aud": 7},
        {"sub": "olga\n2026 admin signed in"}, {"sub": "olga\0"}, {"sub": "\ud800"},
        {"sub": "olga\u202eanig"}, {"sub": "o" * 513}, {"sub": "\r\nx-admin: 1"},
    ],
    ids=lambda changes: repr(changes)[:40],
)  # fmt: skip
async def test_claims_that_do_not_hold(changes: dict[str, Any]) -> None:
    made = {name: value for name, value in claims(**changes).items() if value is not None}
    keys = WatchedKeys()
    head = b64(json.dumps({"alg": "RS256", "kid": "unknown"}).encode())
    body = b64(json.dumps(made).encode())
    signature = jwt.get_algorithm_by_name("RS256").sign(f"{head}.{body}".encode(), KEY)
    with pytest.raises(AuthenticationError):
        await verifier_with(keys).identify(f"Bearer {head}.{body}.{b64(signature)}")
    # Nobody is asked for a key because of a token that couldn't be good with any.
    assert keys.asked == []


@pytest.mark.parametrize("number", ["1e400", "-1e400", "Infinity", "NaN", "9" * 5000, "1e4000000"])
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
async def test_a_date_that_no_clock_can_be_compared_with(name: str, number: str) -> None:
    head = b64(json.dumps({"alg": "RS256", "kid": "k1"}).encode())
    made = json.dumps(claims(**{name: "HERE"})).replace('"HERE"', number)
    signature = jwt.get_algorithm_by_name("RS256").sign(
        f"{head}.{b64(made.encode())}".encode(), KEY
    )
    await refused(f"{head}.{b64(made.encode())}.{b64(signature)}")


async def test_a_token_within_a_token() -> None:
    body = b64(signed().encode())
    for head in ({"alg": "RS256", "kid": "k1", "cty": "JWT"}, {"alg": "dir", "enc": "A128GCM"}):
        start = f"{b64(json.dumps(head).encode())}.{body}"
        signature = jwt.get_algorithm_by_name("RS256").sign(start.encode(), KEY)
        await refused(f"{start}.{b64(signature)}")
        await refused(f"{start}.{b64(signature)}.{body}.{body}")


@pytest.mark.parametrize("space", [" ", "\r\n", "\t "])
async def test_space_around_what_a_token_says_is_none_of_it(space: str) -> None:
    head = b64(f'{space}{{"alg": "RS256", "kid": "k1"}}{space}'.encode())
    body = b64(f"{space}{json.dumps(claims())}{space}".encode())
    signature = jwt.get_algorithm_by_name("RS256").sign(f"{head}.{body}".encode(), KEY)
    token = f"{head}.{body}.{b64(signature)}"
    assert (await verifier_with(WatchedKeys()).identify(f"Bearer {token}")).identity.subject
    two = b64(f"{json.dumps(claims())}{space}{{}}".encode())
    signature = jwt.get_algorithm_by_name("RS256").sign(f"{head}.{two}".encode(), KEY)
    await refused(f"{head}.{two}.{b64(signature)}")


async def test_names_that_look_alike_are_two() -> None:
    """Nothing is normalised: whoever may choose a name can't become somebody by spelling it."""
    owners = set()
    names = ["olga", "OLGA", "\u043elga", "olga\u0301", "olg\u00e1", "\uff4flga", "olga|x"]
    for name in names:
        token = jwt.encode(claims(sub=name), KEY, "RS256", headers={"kid": "k1"})
        caller = await verifier_with(WatchedKeys()).identify(f"Bearer {token}")
        owners.add(caller.identity.owner)
    assert len(owners) == len(names)


async def test_a_token_spelt_otherwise_is_not_the_same_token() -> None:
    head, body, signature = signed().split(".")
    start = f"{head}.{body}"
    for other in (
        f"{start}.{signature}=", f"{head}..{body}.{signature}", f"{start}.{signature}.",
        f"{start}.{signature}A", f"{start}.{signature[:-1]}", f"{head} .{body}.{signature}",
        f"{start}.{signature}.{signature}.{signature}", f"{head}.{body}=.{signature}",
        f"{start}.\u017f{signature[1:]}", f"{start}.+{signature[1:]}", f"{start}./{signature[1:]}",
        f"{head}\n.{body}.{signature}", start, f"{start}.",
    ):  # fmt: skip
        await refused(other)


async def test_a_remembered_token_ends_when_it_ends() -> None:
    now = time.time()
    moment = [now]
    provider_keys = WatchedKeys()
    verifier = verifier_with(provider_keys)
    verifier._clock = lambda: moment[0]
    token = signed()
    await verifier.identify(f"Bearer {token}")
    moment[0] = now + 599
    await verifier.identify(f"Bearer {token}")
    moment[0] = now + 601
    with pytest.raises(AuthenticationError, match="expired"):
        await verifier.identify(f"Bearer {token}")


async def test_what_is_remembered_is_bounded() -> None:
    verifier = verifier_with(WatchedKeys(), max_verified_tokens=3)
    for number in range(10):
        token = jwt.encode(claims(jti=number), KEY, "RS256", headers={"kid": "k1"})
        await verifier.identify(f"Bearer {token}")
    assert len(verifier._verified) == 3


async def test_another_tenants_token_of_the_same_issuer() -> None:
    token = jwt.encode(claims(tid="mine"), KEY, "RS256", headers={"kid": "k1"})
    verifier = verifier_with(WatchedKeys(), fixed_claims={"tid": "mine"})
    assert (await verifier.identify(f"Bearer {token}")).identity.subject == "olga"
    for tid in ("theirs", None, ["mine"]):
        other = jwt.encode(claims(tid=tid), KEY, "RS256", headers={"kid": "k1"})
        await refused(other, fixed_claims={"tid": "mine"})
