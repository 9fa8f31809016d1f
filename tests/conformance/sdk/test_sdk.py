"""Microsoft's own Python SDK, and OpenAI's client, drive a running platform unchanged."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environments import bin_with
from tests.support.platform import Platform, running_platform

HERE = Path(__file__).parent
CHAPTERS = ["versions", "agents", "sessions", "files", "logs", "responses", "deletions"]


@pytest.fixture
def platform() -> Iterator[Platform]:
    with running_platform() as platform:
        yield platform


@pytest.mark.timeout(240)
@pytest.mark.parametrize("story", ["sync_story", "async_story"])
def test_the_sdk_finds_everything_as_it_expects_it(platform: Platform, story: str) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")
    }
    done = subprocess.run(
        [
            bin_with("sdk") / "python",
            "-W",
            "error::DeprecationWarning:__main__",
            str(HERE / f"{story}.py"),
        ],
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
        env={**environment, "SDK_ENDPOINT": platform.endpoint, "SDK_TOKEN": platform.token()},
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}\n{platform.log()[-3000:]}"
    assert done.stdout.splitlines() == [f"{chapter} ok" for chapter in CHAPTERS]
