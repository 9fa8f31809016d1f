"""The providers whose tokens are accepted, as a TOML file names them."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trunkline.auth.claims import ClaimsMapping
from trunkline.auth.discovery import is_safe_url
from trunkline.auth.grants import Grants
from trunkline.auth.keys import ALGORITHMS
from trunkline.auth.settings import AuthSettings
from trunkline.config import SettingsError, variable_of

_FILE: Final = variable_of("auth", "providers_file")
_DEFAULT_ALGORITHMS: Final = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
_ENTRA_AUTHORITY: Final = "https://login.microsoftonline.com"
_ENTRA_V1: Final = "https://sts.windows.net"
_TENANT: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "preset": str,
    "issuer": str,
    "tenants": list,
    "authority": str,
    "audiences": list,
    "algorithms": list,
    "leeway_s": (int, float),
    "jwks_uri": str,
    "subject_claim": str,
    "roles_claim": str,
    "projects_claim": str,
    "grants": dict,
    "default_grants": list,
    "required_claims": dict,
    "introspection_endpoint": str,
    "client_id": str,
    "client_secret_file": str,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One issuer's tokens: where their keys are, and what they have to say.

    Attributes:
        issuer: What its tokens have in ``iss``.
        identity_issuer: What its callers' identities have, which is the same for an issuer that
            goes by several names.
        discovery: The issuer that discovery is asked of.
        jwks_uri: Where the keys are; empty for discovery.
        audiences: Whom tokens may be for; one is enough.
        algorithms: What they may be signed with.
        leeway_s: Seconds by which its clock may differ.
        claims: How their claims are read.
        fixed_claims: Claims that must be exactly so.
        introspection: Where it is asked about opaque tokens, if it is.
    """

    issuer: str
    identity_issuer: str
    discovery: str
    jwks_uri: str
    audiences: frozenset[str]
    algorithms: frozenset[str]
    leeway_s: float
    claims: ClaimsMapping
    fixed_claims: Mapping[str, str]
    introspection: "Introspection | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspection:
    """Where and as whom a provider is asked about tokens (RFC 7662)."""

    endpoint: str
    client_id: str
    client_secret: str


def load_providers(settings: AuthSettings) -> list[Provider]:
    """Return the providers of the settings' file.

    Raises:
        SettingsError: With everything that is wrong in it.
    """
    path = settings.providers_file
    if path is None:
        return []
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise SettingsError([f"{_FILE}: can't read {path}: {exc.strerror}"]) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise SettingsError([f"{_FILE}: {path} isn't TOML: {exc}"]) from None
    problems = [f"{path}: {name!r} isn't known" for name in document if name != "provider"]
    tables = document.get("provider")
    if not isinstance(tables, list) or not tables:
        raise SettingsError([*problems, f"{path}: it must have [[provider]] at least once"])
    found: dict[str, Provider] = {}
    for number, table in enumerate(tables, 1):
        where = f"{path}: provider {number}"
        try:
            for provider in _Reader(table, settings, path.parent).read():
                if provider.issuer in found:
                    problems.append(f"{where}: issuer {provider.issuer} is there twice")
                found[provider.issuer] = provider
        except ValueError as exc:
            problems += [f"{where}: {line}" for line in str(exc).splitlines()]
    if problems:
        raise SettingsError(problems)
    return list(found.values())


class _Reader:
    """Reads one ``[[provider]]``."""

    def __init__(self, table: Mapping[str, Any], settings: AuthSettings, folder: Path) -> None:
        self._table = table
        self._settings = settings
        self._folder = folder
        self._problems: list[str] = []

    def read(self) -> list[Provider]:
        for name, value in self._table.items():
            if name not in _KINDS:
                self._problems.append(f"{name!r} isn't known")
            elif not isinstance(value, _KINDS[name]):
                self._problems.append(f"{name} isn't of the right type")
        if self._problems:
            raise ValueError("\n".join(self._problems))
        preset = self._table.get("preset", "")
        if preset not in ("", "entra"):
            self._problems.append("preset must be entra")
        issuers = self._entra_issuers() if preset == "entra" else self._plain_issuers()
        made = [self._provider(*names, is_entra=preset == "entra") for names in issuers]
        if self._problems:
            raise ValueError("\n".join(dict.fromkeys(self._problems)))
        return made

    def _plain_issuers(self) -> list[tuple[str, str, str]]:
        issuer = self._table.get("issuer", "")
        if not is_safe_url(issuer):
            self._problems.append("issuer must be an https URL, or http on this machine")
        return [(issuer, issuer, "")]

    def _entra_issuers(self) -> list[tuple[str, str, str]]:
        authority = self._table.get("authority", _ENTRA_AUTHORITY).rstrip("/")
        if not is_safe_url(authority):
            self._problems.append("authority must be an https URL, or http on this machine")
        tenants = self._texts("tenants")
        if not tenants or not all(_TENANT.fullmatch(tenant) for tenant in tenants):
            self._problems.append(
                "tenants must list the ids of the tenants whose tokens are accepted: "
                "36 characters of lower-case hex with hyphens"
            )
        found = []
        for tenant in tenants:
            newer = f"{authority}/{tenant}/v2.0"
            older = f"{_ENTRA_V1}/{tenant}/"
            # Both kinds are signed with the same keys, and the same caller is one identity.
            found += [(newer, newer, tenant), (older, newer, tenant)]
        return found

    def _provider(self, issuer: str, identity: str, tenant: str, *, is_entra: bool) -> Provider:
        table = self._table
        algorithms = self._texts("algorithms") or list(
            ("RS256",) if is_entra else _DEFAULT_ALGORITHMS
        )
        if unknown := [name for name in algorithms if name not in ALGORITHMS]:
            self._problems.append(
                f"algorithms: {', '.join(unknown)} can't be allowed; there are "
                f"{', '.join(ALGORITHMS)}"
            )
        leeway_s = float(table.get("leeway_s", self._settings.leeway_s))
        if not 0 <= leeway_s <= 300:
            self._problems.append("leeway_s must be between 0 and 300")
        jwks_uri = table.get("jwks_uri", "")
        if jwks_uri and not is_safe_url(jwks_uri):
            self._problems.append("jwks_uri must be an https URL, or http on this machine")
        return Provider(
            issuer=issuer,
            identity_issuer=identity,
            discovery=identity,
            jwks_uri=jwks_uri,
            audiences=frozenset(self._texts("audiences") or [self._settings.audience]),
            algorithms=frozenset(algorithms),
            leeway_s=leeway_s,
            claims=self._claims(is_entra=is_entra),
            fixed_claims={"tid": tenant} if tenant else {},
            introspection=self._introspection(),
        )

    def _claims(self, *, is_entra: bool) -> ClaimsMapping:
        table = self._table
        required = {
            name: frozenset([value] if isinstance(value, str) else value)
            for name, value in table.get("required_claims", {}).items()
        }
        return ClaimsMapping(
            # The same for one user with every application of a tenant, unlike `sub`.
            subject=table.get("subject_claim", "oid" if is_entra else "sub"),
            roles=table.get("roles_claim", "roles"),
            projects=table.get("projects_claim", ""),
            grants={
                value: self._grants(f"grants.{value}", grants)
                for value, grants in table.get("grants", {}).items()
            },
            defaults=self._grants("default_grants", table.get("default_grants", [])),
            required=required,
        )

    def _grants(self, name: str, value: Any) -> Grants:
        try:
            return Grants.parse([value] if isinstance(value, str) else value)
        except (ValueError, TypeError) as exc:
            self._problems.append(f"{name}: {exc}")
            return Grants()

    def _introspection(self) -> Introspection | None:
        endpoint = self._table.get("introspection_endpoint", "")
        if not endpoint:
            return None
        if not is_safe_url(endpoint):
            self._problems.append("introspection_endpoint must be an https URL, or on this machine")
        secret = self._read_secret(self._table.get("client_secret_file", ""))
        client_id = self._table.get("client_id", "")
        if not client_id or not secret:
            self._problems.append("introspection_endpoint needs client_id and client_secret_file")
        return Introspection(endpoint=endpoint, client_id=client_id, client_secret=secret)

    def _read_secret(self, name: str) -> str:
        if not name:
            return ""
        try:
            return (self._folder / name).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            self._problems.append(f"client_secret_file: can't read {name}: {type(exc).__name__}")
            return ""

    def _texts(self, name: str) -> list[str]:
        values: list[Any] = self._table.get(name, [])
        if not all(isinstance(value, str) and value for value in values):
            self._problems.append(f"{name} must be a list of texts")
            return []
        return values
