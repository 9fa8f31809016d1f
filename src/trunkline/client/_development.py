"""Tokens for a platform on this machine, made with its own development issuer."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

from trunkline.client._endpoint import Endpoint
from trunkline.client._tokens import TokenSource, token_from


def development_token(state_dir: Path | None = None) -> Callable[[], str]:
    """Return a token source: it makes a new token for every request, in this user's name.

    Whoever can read that directory can make tokens for anybody, so it is for one's own machine.

    Args:
        state_dir: The directory the platform was started with; ``TRUNKLINE_HOME``, else the
            default one.
    """

    def make() -> str:
        # Late, so that only who makes tokens loads the cryptography.
        return str(importlib.import_module("trunkline.auth.local").local_token(state_dir))

    return make


def environment_token(endpoint: Endpoint, env: Mapping[str, str]) -> TokenSource | None:
    """Return ``TRUNKLINE_TOKEN``, else this machine's issuer if that is where it goes."""
    return token_from(env) or (development_token() if endpoint.is_loopback else None)
