"""The providers' file: what it says, and what is wrong with it."""

import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from trunkline.auth.grants import Grants
from trunkline.auth.keys import FixedKeys
from trunkline.auth.providers import Provider, load_providers
from trunkline.auth.settings import AuthSettings
from trunkline.auth.verify import TokenVerifier
from trunkline.config import SettingsError
from trunkline.protocol.errors import AuthenticationError, ForbiddenError

TENANT, OTHER = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
KEY = rsa.generate_private_key(65537, 2048)
JWK = RSAAlgorithm(RSAAlgorithm.SHA256).to_jwk(KEY.public_key(), as_dict=True) | {"kid": "k"}


def load(tmp_path: Path, text: str) -> list[Provider]:
    file = tmp_path / "providers.toml"
    file.write_text(text)
    return load_providers(AuthSettings(providers_file=file))


def verifier_of(providers: list[Provider]) -> TokenVerifier:
    keys = FixedKeys({"keys": [JWK]})
    return TokenVerifier(AuthSettings(), [(provider, keys) for provider in providers])


def bearer(**claims: Any) -> str:
    given = {"aud": "https://ai.azure.com", "exp": int(time.time()) + 600} | claims
    return f"Bearer {jwt.encode(given, KEY, 'RS256', headers={'kid': 'k'})}"


def test_without_a_file_there_are_none() -> None:
    assert load_providers(AuthSettings()) == []


async def test_entra_knows_a_user_by_either_kind_of_token_and_an_application(
    tmp_path: Path,
) -> None:
    providers = load(
        tmp_path,
        f"""
        [[provider]]
        preset = "entra"
        tenants = ["{TENANT}"]
        audiences = ["https://ai.azure.com", "api://trunkline"]
        [provider.grants]
        "Agents.Invoke" = ["invoker@default"]
        "Agents.Admin" = "admin"
        """,
    )
    verifier = verifier_of(providers)
    newer = bearer(
        iss=f"https://login.microsoftonline.com/{TENANT}/v2.0", tid=TENANT, oid="o-1", sub="s-1",
        scp="agents.use", roles=["Agents.Invoke"],
    )  # fmt: skip
    older = bearer(iss=f"https://sts.windows.net/{TENANT}/", tid=TENANT, oid="o-1", sub="s-2")
    user = await verifier.identify(newer)
    assert user.grants == Grants.parse(["invoker@default"])
    assert (await verifier.identify(older)).identity == user.identity
    application = bearer(
        iss=f"https://login.microsoftonline.com/{TENANT}/v2.0", tid=TENANT, oid="o-2",
        idtyp="app", roles=["Agents.Admin", "Unheard.Of"], aud="api://trunkline",
    )  # fmt: skip
    assert (await verifier.identify(application)).grants == Grants.parse(["admin"])


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": f"https://login.microsoftonline.com/{OTHER}/v2.0", "tid": OTHER},
        {"iss": f"https://login.microsoftonline.com/{TENANT}/v2.0", "tid": OTHER},
        {"iss": f"https://login.microsoftonline.com/{TENANT}/v2.0"},
        {"iss": "https://login.microsoftonline.com/common/v2.0", "tid": TENANT},
        {"iss": f"https://sts.windows.net/{OTHER}/", "tid": TENANT},
        {"iss": f"https://sts.windows.net/{TENANT}", "tid": TENANT},
    ],
)
async def test_entra_lets_no_other_tenant_in(tmp_path: Path, claims: dict[str, str]) -> None:
    providers = load(tmp_path, f'[[provider]]\npreset = "entra"\ntenants = ["{TENANT}"]')
    with pytest.raises(AuthenticationError):
        await verifier_of(providers).identify(bearer(oid="o-1", **claims))


async def test_roles_hold_in_the_projects_that_a_claim_names(tmp_path: Path) -> None:
    (provider,) = load(
        tmp_path,
        """
        [[provider]]
        issuer = "https://login.example"
        subject_claim = "user.name"
        roles_claim = "realm.roles"
        projects_claim = "projects"
        default_grants = ["reader"]
        """,
    )
    verifier = verifier_of([provider])

    async def grants(**claims: Any) -> Grants:
        token = bearer(iss="https://login.example", user={"name": "olga"}, **claims)
        caller = await verifier.identify(token)
        assert caller.identity.subject == "olga"
        return caller.grants

    found = await grants(realm={"roles": ["invoker", "admin@two", "nonsense"]}, projects="one")
    assert found == Grants.parse(["invoker@one", "reader@one"])
    found = await grants(realm={"roles": ["admin@two/a"]}, projects=["two", "*"])
    assert found == Grants.parse(["admin@two/a", "reader@two"])
    assert await grants(realm="admin") == Grants()


async def test_only_those_come_in_whose_claims_are_required(tmp_path: Path) -> None:
    (provider,) = load(
        tmp_path,
        """
        [[provider]]
        issuer = "https://login.example"
        default_grants = ["invoker"]
        required_claims = { scp = ["agents.use", "agents.all"] }
        """,
    )
    verifier = verifier_of([provider])
    good = bearer(iss="https://login.example", sub="olga", scp="profile agents.use")
    assert (await verifier.identify(good)).grants == Grants.parse(["invoker"])
    for scope in ("profile", "agents.used", None):
        with pytest.raises(ForbiddenError, match="`scp`"):
            await verifier.identify(bearer(iss="https://login.example", sub="olga", scp=scope))


def test_a_provider_may_have_its_own_leeway(tmp_path: Path) -> None:
    (provider,) = load(tmp_path, '[[provider]]\nissuer = "https://a.example"\nleeway_s = 30')
    assert provider.leeway_s == 30


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", r"must have \[\[provider\]\]"),
        ("provider = 3", r"must have \[\[provider\]\]"),
        ("x = [", "isn't TOML"),
        ('[[provider]]\nissuer = "http://login.example"', "issuer must be an https URL"),
        ("[[provider]]", "issuer must be an https URL"),
        ('[[provider]]\nissuer = "https://a.example"\nissues = 1', "'issues' isn't known"),
        ('[[provider]]\nissuer = 1', "issuer isn't of the right type"),
        ('[[provider]]\npreset = "okta"', "preset must be entra"),
        ('[[provider]]\npreset = "entra"', "tenants must list"),
        ('[[provider]]\npreset = "entra"\ntenants = ["common"]', "tenants must list"),
        ('[[provider]]\nissuer = "https://a.example"\nalgorithms = ["HS256"]', "HS256 can't be"),
        ('[[provider]]\nissuer = "https://a.example"\nalgorithms = ["none"]', "none can't be"),
        ('[[provider]]\nissuer = "https://a.example"\nleeway_s = 9999', "between 0 and 300"),
        ('[[provider]]\nissuer = "https://a.example"\ndefault_grants = ["root"]', "isn't a grant"),
        ('[[provider]]\nissuer = "https://a.example"\naudiences = [1]', "a list of texts"),
        ('[[provider]]\nissuer = "https://a.example"\njwks_uri = "http://b.example"', "jwks_uri"),
        ('[[provider]]\nissuer = "https://a.example"\n' * 2, "is there twice"),
        ('[[provider]]\nissuer = "https://a.example"\n'
         'introspection_endpoint = "https://a.example/i"', "needs client_id"),
        ('[[provider]]\nissuer = "https://a.example"\nclient_secret_file = "absent"\n'
         'introspection_endpoint = "https://a.example/i"', "can't read absent"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        load(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't read"):
        load_providers(AuthSettings(providers_file=tmp_path / "absent"))
