"""Puts together who may come in: the development issuer, providers, and what they are asked."""

import datetime as dt
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.aio.shared_counts import SharedCounts
from trunkline.auth.admission import Admission
from trunkline.auth.discovery import DiscoveredKeys
from trunkline.auth.introspection import IntrospectedTokens
from trunkline.auth.issuer import DevelopmentIssuer
from trunkline.auth.keys import KeySource
from trunkline.auth.providers import Provider, load_providers
from trunkline.auth.rates import Rates
from trunkline.auth.secret_box import SecretBox
from trunkline.auth.settings import AuthSettings
from trunkline.auth.verify import OpaqueTokens, TokenVerifier, development
from trunkline.control.api_keys import ApiKeyTokens, FindsApiKeys
from trunkline.gateway.audit import AuditTrail, KeepsAudit
from trunkline.platform.settings import PlatformSettings
from trunkline.sessions.agent_secrets import AgentSecrets
from trunkline.store.interface import Store

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may come in.

    Attributes:
        admission: Tells who sends a request.
        verifier: Tells whose a token is.
        trusted: Whose tokens are accepted, each with its keys.
        issuer: The development issuer, whose public key is served.
        takes_development: Whether the development issuer's tokens are accepted.
        rates: How often they may ask.
        audit: Where it is recorded.
        secrets: What agents get that nobody sees.
        notices: What whoever starts the platform should know, a line each.
    """

    admission: Admission
    verifier: TokenVerifier
    trusted: tuple[tuple[Provider, KeySource], ...]
    issuer: DevelopmentIssuer
    takes_development: bool
    rates: Rates
    audit: AuditTrail
    secrets: AgentSecrets
    notices: tuple[str, ...]


def open_access(
    platform: PlatformSettings,
    state_dir: Path,
    *,
    host: str,
    store: Store,
    stack: AsyncExitStack,
    shared: SharedCounts | None = None,
) -> Access:
    """Put it together; ``stack`` closes it, and ``shared`` is what workers count in, too.

    Raises:
        SettingsError: If the providers' file is wrong.
        SecretKeyError: If the keys for secrets can't be had.
    """
    settings = platform.auth
    audit = keeping_audit(settings, store, stack)
    issuer = DevelopmentIssuer.open(state_dir)
    providers = load_providers(settings)
    takes_development = _takes_development(settings, host)
    issuers = _issuers(settings, issuer if takes_development else None, providers, stack)
    verifier = _verifier(settings, issuers, store)
    return Access(
        admission=Admission(verifier),
        verifier=verifier,
        trusted=tuple(issuers),
        issuer=issuer,
        takes_development=takes_development,
        rates=Rates(platform.rates, shared),
        audit=audit,
        secrets=AgentSecrets(SecretBox.open(settings, state_dir), store),
        notices=tuple(_notices(host, takes_development=takes_development, providers=providers)),
    )


def keeping_audit(settings: AuthSettings, store: KeepsAudit, stack: AsyncExitStack) -> AuditTrail:
    """Return the audit log; what is in it when ``stack`` closes is written, too."""
    audit = AuditTrail(store, kept_for=dt.timedelta(days=settings.audit_days))
    stack.push_async_callback(audit.flush)
    return audit


def open_admission(
    settings: AuthSettings,
    state_dir: Path,
    *,
    host: str,
    keys: FindsApiKeys,
    stack: AsyncExitStack,
) -> Admission:
    """Return what tells who comes, and no more than that; ``stack`` closes it.

    Raises:
        SettingsError: If the providers' file is wrong.
    """
    issuer = DevelopmentIssuer.open(state_dir) if _takes_development(settings, host) else None
    issuers = _issuers(settings, issuer, load_providers(settings), stack)
    return Admission(_verifier(settings, issuers, keys))


def _takes_development(settings: AuthSettings, host: str) -> bool:
    return settings.development_issuer == "always" or (
        settings.development_issuer == "loopback" and host in LOOPBACK
    )


def _issuers(
    settings: AuthSettings,
    issuer: DevelopmentIssuer | None,
    providers: list[Provider],
    stack: AsyncExitStack,
) -> list[tuple[Provider, KeySource]]:
    issuers: list[tuple[Provider, KeySource]] = []
    if issuer is not None:
        issuers += development(settings, issuer.jwks())
    sources: dict[tuple[str, str], DiscoveredKeys] = {}
    for provider in providers:
        place = (provider.discovery, provider.jwks_uri)
        if place not in sources:
            keys = DiscoveredKeys(provider.discovery, settings, jwks_uri=provider.jwks_uri)
            stack.push_async_callback(keys.aclose)
            sources[place] = keys
        issuers.append((provider, sources[place]))
    return issuers


def _verifier(
    settings: AuthSettings, issuers: list[tuple[Provider, KeySource]], keys: FindsApiKeys
) -> TokenVerifier:
    opaque: list[OpaqueTokens] = [ApiKeyTokens(keys)]
    seen: set[tuple[str, str]] = set()
    for provider, _ in issuers:
        place = (provider.discovery, provider.jwks_uri)
        if provider.introspection is not None and place not in seen:
            opaque.append(IntrospectedTokens(provider, provider.introspection, settings))
        seen.add(place)
    return TokenVerifier(settings, issuers, opaque=opaque)


def _notices(host: str, *, takes_development: bool, providers: list[Provider]) -> list[str]:
    notices = [f"tokens of {provider.issuer} are accepted" for provider in providers]
    is_local = host in LOOPBACK
    if takes_development:
        notices.append(
            "tokens of the development issuer are accepted: whoever can read the state directory "
            "can call as anybody (TRUNKLINE_AUTH_DEVELOPMENT_ISSUER)"
        )
    else:
        notices.append(
            "tokens of the development issuer are refused"
            + ("" if is_local else f", because {host} is reachable from other machines")
            + " (TRUNKLINE_AUTH_DEVELOPMENT_ISSUER)"
        )
        if not providers:
            notices.append(
                "warning: nobody can come in; name providers in TRUNKLINE_AUTH_PROVIDERS_FILE"
            )
    return notices
