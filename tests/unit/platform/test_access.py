"""Whose tokens a platform takes, by where it listens, and what it says of that when it starts."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from trunkline.auth.issuer import DevelopmentIssuer
from trunkline.platform.access import open_access
from trunkline.platform.settings import load_settings
from trunkline.protocol.errors import AuthenticationError
from trunkline.store.sqlite.engine import open_sqlite

PROVIDER = '[[provider]]\nissuer = "https://login.example"\n'
NOBODY = "warning: nobody can come in; name providers in TRUNKLINE_AUTH_PROVIDERS_FILE"


@pytest.mark.parametrize(
    ("setting", "host", "is_taken", "said"),
    [
        ("loopback", "127.0.0.1", True, "are accepted: whoever can read the state directory"),
        ("loopback", "::1", True, "are accepted: whoever can read the state directory"),
        ("loopback", "0.0.0.0", False, "are refused, because 0.0.0.0 is reachable from other"),
        ("loopback", "::", False, "are refused, because :: is reachable from other machines"),
        ("loopback", "192.0.2.7", False, "are refused, because 192.0.2.7 is reachable from"),
        ("always", "0.0.0.0", True, "are accepted: whoever can read the state directory"),
        ("never", "127.0.0.1", False, "are refused (TRUNKLINE_AUTH_DEVELOPMENT_ISSUER)"),
    ],
)
@pytest.mark.parametrize("has_provider", [False, True])
async def test_the_development_issuer_is_for_this_machine_unless_told_otherwise(
    tmp_path: Path, setting: str, host: str, is_taken: bool, said: str, *, has_provider: bool
) -> None:
    file = tmp_path / "providers.toml"
    file.write_text(PROVIDER)
    env = {"TRUNKLINE_AUTH_DEVELOPMENT_ISSUER": setting}
    if has_provider:
        env["TRUNKLINE_AUTH_PROVIDERS_FILE"] = str(file)
    settings = load_settings(env, tmp_path)
    token = DevelopmentIssuer.open(tmp_path).issue("olga")
    async with AsyncExitStack() as stack:
        store = await open_sqlite(tmp_path / "trunkline.db")
        stack.push_async_callback(store.aclose)
        access = open_access(settings, tmp_path, host=host, store=store, stack=stack)
        headers = {"authorization": f"Bearer {token}"}
        if is_taken:
            assert (await access.admission.admit(headers.get)).identity.subject == "olga"
        else:
            with pytest.raises(AuthenticationError, match="issuer isn't known here"):
                await access.admission.admit(headers.get)
        assert access.takes_development == is_taken
    (notice,) = [line for line in access.notices if "development issuer" in line]
    assert said in notice
    assert ("tokens of https://login.example are accepted" in access.notices) == has_provider
    assert (NOBODY in access.notices) == (not is_taken and not has_provider)
