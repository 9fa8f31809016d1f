"""Who is calling, on a platform whose state directory is at hand."""

from pathlib import Path

from trunkline.cli import table

#: Long enough for the slowest request, short enough to be worthless soon afterwards.
TOKEN_LIFETIME_S = 3600


def local_token(
    state_dir: Path | None,
    user: str | None = None,
    lifetime_s: int = TOKEN_LIFETIME_S,
    roles: list[str] | None = None,
) -> str:
    """Return a token of the issuer in a state directory."""
    return table.make_token(state_dir, user, lifetime_s, roles)
