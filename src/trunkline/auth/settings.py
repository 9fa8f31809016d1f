"""How callers are told apart."""

from dataclasses import dataclass
from pathlib import Path

from trunkline.auth.grants import Grants
from trunkline.auth.issuer import DEFAULT_AUDIENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """What a token has to say, and who may say it."""

    providers_file: Path | None = None
    """A TOML file that names the OpenID Connect providers whose tokens are accepted, and what
    their claims mean; docs/reference/authentication.md describes it. Without one, only the
    development issuer's are."""

    development_issuer: str = "loopback"
    """Whether tokens of the development issuer are accepted: `loopback` (while the platform
    listens on this machine alone), `always` or `never`. Whoever can read the state directory can
    make such tokens for anybody."""

    audience: str = DEFAULT_AUDIENCE
    """The audience a token must name. The default is the one Foundry's clients ask for. A provider
    in `providers_file` may have others."""

    leeway_s: float = 0.0
    """Seconds by which the clocks of the issuer and of this machine may differ. The development
    issuer runs on this machine, so there is nothing to allow for by default; a provider in
    `providers_file` may have another."""

    development_roles: tuple[str, ...] = ("reader", "invoker", "deployer")
    """What tokens of the development issuer allow that name no roles of their own: everything but
    other people's sessions. Each is `ROLE`, `ROLE@PROJECT` or `ROLE@PROJECT/AGENT`."""

    secrets_key_file: Path | None = None
    """A file with the keys that secrets are encrypted with in the store: 32 bytes in base64, one a
    line. The first encrypts, all decrypt. Without one it is `secrets.key` in the state directory,
    made on first use. Processes that share a store need the same."""

    secrets_key_command: tuple[str, ...] = ()
    """A command, its words separated by commas, that prints those keys instead: for a key service.
    It is run once, at the start."""

    audit_days: float = 400.0
    """Days for which the audit log keeps who did what."""

    max_verified_tokens: int = 10_000
    """How many verified tokens are remembered, so that a client that comes again costs next to
    nothing. Each is a few hundred bytes; the oldest is forgotten first."""

    keys_max_fresh_s: float = 3600.0
    """Seconds for which a provider's keys are used without looking for newer ones, unless the
    provider says less."""

    keys_max_stale_s: float = 86_400.0
    """Seconds for which a provider's keys go on being used when they can't be fetched anew."""

    key_refresh_min_s: float = 10.0
    """The least seconds between two requests for a provider's keys. A key id that isn't known
    makes the platform look for new keys, and no more often than this, whatever callers send."""

    fetch_timeout_s: float = 5.0
    """Seconds a provider has to answer a request for its keys or about a token."""

    def __post_init__(self) -> None:
        try:
            Grants.parse(self.development_roles)
        except ValueError as exc:
            raise ValueError(f"development_roles: {exc}") from None
        if self.development_issuer not in ("loopback", "always", "never"):
            raise ValueError("development_issuer must be loopback, always or never")
        if not self.audience:
            raise ValueError("audience must not be empty")
        if not 0 <= self.leeway_s <= 300:
            raise ValueError("leeway_s must be between 0 and 300")
        if self.max_verified_tokens < 0:
            raise ValueError("max_verified_tokens must not be negative")
        for name in ("keys_max_fresh_s", "keys_max_stale_s", "fetch_timeout_s", "audit_days"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if self.key_refresh_min_s < 0:
            raise ValueError("key_refresh_min_s must not be negative")
