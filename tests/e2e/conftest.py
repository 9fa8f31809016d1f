"""One platform per test file: each file is a story, and stories don't share state."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.platform import Platform, running_platform

AGENTS = Path(__file__).parent / "agents"
#: A file's first test waits for a platform, and for the environment of an agent to be built: on a
#: busy machine the usual limit would be for that alone. What hangs is still told.
_TIMEOUT_S = 240


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a story more time than other tests have, unless it says how much it needs."""
    for item in items:
        is_here = item.path.is_relative_to(Path(__file__).parent)
        if is_here and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_TIMEOUT_S))


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """Settings of the file's platform, as environment variables."""
    return {}


@pytest.fixture(scope="module")
def platform(settings: dict[str, str]) -> Iterator[Platform]:
    with running_platform(**settings) as platform:
        yield platform


@pytest.fixture(scope="module")
def probe(platform: Platform) -> str:
    name, _, _ = platform.deploy(AGENTS / "probe")
    return name


@pytest.fixture(scope="module")
def counter(platform: Platform) -> str:
    name, _, _ = platform.deploy(AGENTS / "counter")
    return name


@pytest.fixture(scope="module")
def token(platform: Platform) -> str:
    return platform.token()


@pytest.fixture
async def http(platform: Platform, token: str) -> AsyncIterator[httpx2.AsyncClient]:
    """The project's addresses, as somebody who may use its agents."""
    async with httpx2.AsyncClient(
        base_url=platform.endpoint,
        headers={"authorization": f"Bearer {token}"},
        params={"api-version": "v1"},
        timeout=60,
        trust_env=False,
    ) as client:
        yield client


@contextlib.asynccontextmanager
async def counting_platform(workers: str, **settings: str) -> AsyncIterator[Platform]:
    """Run a platform of its own with the agent that counts; nothing may have gone wrong in it."""
    settings |= {"TRUNKLINE_GATEWAY_MAX_CONNECTIONS_PER_SESSION": "0"}
    with running_platform("--workers", workers, **settings) as platform:
        platform.deploy(AGENTS / "counter")
        yield platform
