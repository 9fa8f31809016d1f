"""Tokens for the platform on this machine, for whoever can read its state directory."""

import getpass
import os
from collections.abc import Sequence
from pathlib import Path

from trunkline import config
from trunkline.auth.issuer import DevelopmentIssuer

#: Long enough for the slowest request, short enough to be worthless soon afterwards.
TOKEN_LIFETIME_S = 3600


def local_token(
    state_dir: Path | None = None,
    user: str | None = None,
    lifetime_s: int = TOKEN_LIFETIME_S,
    roles: Sequence[str] | None = None,
) -> str:
    """Return a token of the issuer in a state directory; the default one if None.

    It allows what ``roles`` say; with None, what the platform's settings say.
    """
    issuer = DevelopmentIssuer.open(state_dir or config.default_state_dir())
    return issuer.issue(user or user_name(), lifetime_s, roles=roles)


def user_name() -> str:
    """Return the name of whoever runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number nobody gave a name.
        return f"uid-{os.getuid()}"
