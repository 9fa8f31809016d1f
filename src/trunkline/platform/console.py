"""Puts the console together: its files, and who signs people in to it."""

from pathlib import Path

from trunkline.config import SettingsError
from trunkline.console.app import Console
from trunkline.console.oauth import ProviderClient
from trunkline.console.provider import ProviderSignIn
from trunkline.console.settings import ConsoleSettings
from trunkline.console.signin import SignIns
from trunkline.platform.access import Access
from trunkline.platform.settings import PlatformSettings


def open_console(settings: PlatformSettings, access: Access, state_dir: Path) -> Console:
    """Return the console.

    Raises:
        SettingsError: If the provider that people are to sign in with can't be.
    """
    sign_ins = SignIns(
        state_dir,
        access.issuer,
        are_taken=access.takes_development,
        revocations=access.admission.revocations,
    )
    return Console(sign_ins, _provider(settings, access, state_dir))


def _provider(settings: PlatformSettings, access: Access, state_dir: Path) -> ProviderSignIn | None:
    console = settings.console
    if not console.issuer:
        return None
    for provider, keys in access.trusted:
        if provider.issuer == console.issuer:
            client = ProviderClient(provider.discovery, console, settings.auth, _secret(console))
            return ProviderSignIn(
                client, provider, keys, verifier=access.verifier, state_dir=state_dir
            )
    raise SettingsError(
        [
            f"TRUNKLINE_CONSOLE_ISSUER: {console.issuer} isn't the issuer of a provider in "
            "TRUNKLINE_AUTH_PROVIDERS_FILE"
        ]
    )


def _secret(console: ConsoleSettings) -> str:
    path = console.client_secret_file
    if path is None:
        return ""
    try:
        secret = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        why = f"can't read {path}: {type(exc).__name__}"
    else:
        if secret:
            return secret
        why = f"{path} is empty"
    raise SettingsError([f"TRUNKLINE_CONSOLE_CLIENT_SECRET_FILE: {why}"])
