"""A session that says a lot: every line is there, in order, once."""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from tests.support.platform import Platform, ask

_LINE = re.compile(r"line (\d+) says .* of it")


async def numbers(
    http: httpx2.AsyncClient, url: str, lines: int, is_enough: Callable[[], bool] = lambda: False
) -> AsyncIterator[tuple[int, int]]:
    """Yield the number of each line that a stream has, and the offset after it."""
    async with http.stream("GET", url) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            entry = json.loads(line[6:])
            found = _LINE.fullmatch(entry.get("message", ""))
            if found is None:
                # Nothing is cut, joined or made up between the lines.
                assert "line " not in entry.get("message", "")
                continue
            yield int(found[1]), entry["offset"]
            if int(found[1]) == lines - 1 or is_enough():
                return


async def _say_all(platform: Platform, probe: str, session: str, token: str, lines: int) -> None:
    async with platform.connect(probe, session, token=token) as websocket:
        assert await ask(websocket, f"count {lines}") == "counted"


@pytest.mark.parametrize(
    "lines", [5_000, pytest.param(60_000, marks=pytest.mark.long)], ids=["5 s", "a minute"]
)
async def test_a_thousand_lines_a_second(
    platform: Platform, probe: str, token: str, lines: int
) -> None:
    session = f"loud-{lines}"
    async with platform.connect(probe, session, token=token) as websocket:
        await ask(websocket, "say ready")
    url = f"{platform.endpoint}/agents/{probe}/sessions/{session}:logstream?api-version=v1"
    chance = random.Random(lines)
    headers = {"authorization": f"Bearer {token}"}

    async def stay() -> list[int]:
        return [number async for number, _ in numbers(http, url, lines)]

    async def come_and_go() -> list[int]:
        seen: list[int] = []
        after = 0
        while not seen or seen[-1] != lines - 1:
            until = len(seen) + chance.randrange(1, lines // 5)
            where = f"{url}&after={after}"
            async for number, offset in numbers(http, where, lines, lambda u=until: len(seen) >= u):
                seen.append(number)
                after = offset
        return seen

    async with httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:
        saying = asyncio.ensure_future(_say_all(platform, probe, session, token, lines))
        stayed, came_and_went, _ = await asyncio.gather(stay(), come_and_go(), saying)
        afterwards = [n async for n, _ in numbers(http, f"{url}&follow=false&after=0", lines)]
    everything = list(range(lines))
    assert stayed == everything
    assert came_and_went == everything
    assert afterwards == everything
