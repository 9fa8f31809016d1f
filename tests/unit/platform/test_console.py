"""Putting the console together: what is wrong with its provider stops the start."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from trunkline.config import SettingsError
from trunkline.platform.access import open_access
from trunkline.platform.console import open_console
from trunkline.platform.settings import load_settings

ISSUER = "https://login.example.com"


async def opened(folder: Path, **settings: str) -> None:
    providers = folder / "providers.toml"
    providers.write_text(f'[[provider]]\nissuer = "{ISSUER}"\n')
    env = {"TRUNKLINE_AUTH_PROVIDERS_FILE": str(providers), **settings}
    loaded = load_settings(env, folder)
    nothing: Any = None
    async with AsyncExitStack() as stack:
        access = open_access(loaded, folder, host="127.0.0.1", store=nothing, stack=stack)
        open_console(loaded, access, folder)
        # Nobody writes to the audit log's store here.
        stack.pop_all()


@pytest.mark.parametrize("issuer", ["https://another.example.com", f"{ISSUER}/"])
async def test_the_provider_has_to_be_one_whose_tokens_are_taken(
    tmp_path: Path, issuer: str
) -> None:
    with pytest.raises(SettingsError, match="isn't the issuer of a provider"):
        await opened(
            tmp_path, TRUNKLINE_CONSOLE_ISSUER=issuer, TRUNKLINE_CONSOLE_CLIENT_ID="console"
        )


@pytest.mark.parametrize(("content", "why"), [(None, "can't read"), (" \n", "is empty")])
async def test_a_secret_that_cant_be_had(tmp_path: Path, content: str | None, why: str) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_text(content)
    settings = {
        "TRUNKLINE_CONSOLE_ISSUER": ISSUER,
        "TRUNKLINE_CONSOLE_CLIENT_ID": "console",
        "TRUNKLINE_CONSOLE_CLIENT_SECRET_FILE": str(secret),
    }
    with pytest.raises(SettingsError, match=why):
        await opened(tmp_path, **settings)
    secret.write_text("s3cret\n")
    await opened(tmp_path, **settings)
