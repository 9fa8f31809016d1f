"""Who signs people in to the console, besides links."""

from dataclasses import dataclass
from pathlib import Path

_USED = ("access_token", "id_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSettings:
    """The OpenID Connect provider that people sign in to the console with."""

    issuer: str = ""
    """The provider that people sign in with: the `issuer` of one in the file that
    `TRUNKLINE_AUTH_PROVIDERS_FILE` names. Its addresses are found by discovery. Without one,
    people sign in with a link or a token."""

    client_id: str = ""
    """What the provider knows the console as. The address it sends people back to, which it has to
    be told as well, is the console's own: `https://HOST/console/`."""

    client_secret_file: Path | None = None
    """A file with the client's secret, for a provider that wants one. Without it the console is a
    public client, which PKCE makes safe."""

    scopes: tuple[str, ...] = ("openid", "profile")
    """What is asked for, separated by commas; `openid` has to be among it. Most providers give a
    refresh token, with which a page stays signed in when its token ends, for `offline_access`."""

    call_with: str = "access_token"
    """Which of the provider's tokens a page calls the platform with: `access_token`, or `id_token`
    with a provider whose access tokens aren't for the platform to read. Its audience has to be one
    of the provider's `audiences`."""

    parameters: tuple[str, ...] = ()
    """Further parameters of the request to sign in, `NAME=VALUE` separated by commas, such as
    `audience=...` or `resource=...`, which some providers want to be told."""

    provider_name: str = ""
    """What the button to sign in calls the provider. By default its host's name."""

    def __post_init__(self) -> None:
        if bool(self.issuer) != bool(self.client_id):
            raise ValueError("issuer and client_id go together")
        if "openid" not in self.scopes:
            raise ValueError("scopes must have openid")
        if self.call_with not in _USED:
            raise ValueError(f"call_with must be {' or '.join(_USED)}")
        if not all("=" in parameter for parameter in self.parameters):
            raise ValueError("parameters must each be NAME=VALUE")
