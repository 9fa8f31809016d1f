"""Which platform a command talks to, and as whom."""

from collections.abc import Callable
from pathlib import Path

from trunkline import config
from trunkline.cli.identity import local_token
from trunkline.client import Endpoint, Project, TokenSource, resolve_endpoint


def open_project(endpoint: str | None, state_dir: Path | None, *, insecure_http: bool) -> Project:
    """Return the project that is meant, with a token for it."""
    env = config.environment()
    where = resolve_endpoint(endpoint, env)
    token = choose_token(where, env.get("TRUNKLINE_TOKEN"), lambda: local_token(state_dir))
    return Project(where, token, allow_insecure_http=insecure_http)


def choose_token(
    endpoint: Endpoint, given: str | None, local: Callable[[], str]
) -> TokenSource | None:
    """Return the environment's token, else this machine's issuer if that is where it goes."""
    if given:
        return given
    return local if endpoint.is_loopback else None
