"""A whole platform for a benchmark, and the agents that are deployed on it."""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.support.platform import Platform

_AGENT = """kind: hosted
name: {name}
protocols:
  - protocol: invocations_ws
    version: 1.0.0
{more}"""
_START_TIMEOUT_S = 120.0


@contextmanager
def running(*arguments: str, **settings: str) -> Iterator[Platform]:
    """Run a platform on a state directory of its own, and remove that at the end.

    Args:
        arguments: Those of ``trunkline up``.
        settings: Settings, as environment variables.
    """
    folder = Path(tempfile.mkdtemp(prefix="trunkline-bench-"))
    platform = Platform(folder / "state", *arguments, **settings)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(platform.stop)
        yield platform.start()


def deploy(platform: Platform, name: str, source: str, more: str = "") -> None:
    """Deploy an agent of one file.

    Args:
        platform: Where to.
        name: Its name.
        source: The file.
        more: What its definition has besides, as YAML.
    """
    place = platform.state_dir.parent / name
    place.mkdir()
    (place / "agent.yaml").write_text(_AGENT.format(name=name, more=more))
    (place / "main.py").write_text(source)
    platform.deploy(place)


async def wait_for_start(
    platform: Platform,
    agent: str,
    holds: Callable[[Mapping[str, Any]], bool],
    *,
    http: httpx2.AsyncClient,
    token: str,
) -> None:
    """Wait until sessions of an agent's first version are started in a certain way.

    Args:
        platform: Where it is deployed.
        agent: Its name.
        holds: Tells by the version's ``start`` whether it is so.
        http: Asks.
        token: The caller's.

    Raises:
        TimeoutError: If it isn't after two minutes; it says how they are started.
    """
    start: Mapping[str, Any] = {}
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while True:
                answer = await http.get(
                    f"{platform.endpoint}/agents/{agent}/versions/1",
                    params={"api-version": "v1"},
                    headers={"Authorization": f"Bearer {token}"},
                )
                start = answer.json()["start"]
                if holds(start):
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise TimeoutError(f"{agent} is still started so: {start}") from None
