"""What a page costs that shows fifty sessions: ``make bench-console``.

Every session has a socket open and says something once a second. Chromium shows the agent's page,
which asks every two seconds for what each session uses and what went over it. What all of the
browser's processes and the platform's take is compared with the same time without a page. CPU time
is counted, so other work on the machine changes little.
"""

import asyncio
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from playwright.async_api import async_playwright

from tests.support.chromium import FLAGS
from tests.support.console import link
from tests.support.platform import Platform

ROOT = Path(__file__).parents[2]
SECONDS = 30
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pids: list[int]) -> float:
    """Return the seconds of processor time that processes took so far."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def chromium_pids(own: str) -> list[int]:
    """Return all of one browser's processes, by the profile folder in their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if own.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


async def chat(platform: Platform, number: int, token: str, stack: AsyncExitStack) -> None:
    socket = await stack.enter_async_context(
        platform.connect("echo", f"shown-{number:03d}", token=token)
    )

    async def talk() -> None:
        while True:
            await socket.send("still here")
            await socket.recv()
            await asyncio.sleep(1)

    task = asyncio.create_task(talk())
    stack.callback(task.cancel)


async def measure(platform: Platform, sessions: int, profile: Path) -> None:
    token = platform.token("--expires-in", "86400")
    async with AsyncExitStack() as stack:
        for number in range(sessions):
            await chat(platform, number, token, stack)
        serving = [platform.serving_pid]
        before = cpu_s(serving)
        await asyncio.sleep(SECONDS)
        alone = cpu_s(serving) - before

        playwright = await stack.enter_async_context(async_playwright())
        context = await playwright.chromium.launch_persistent_context(
            profile, executable_path="/usr/bin/chromium", args=list(FLAGS)
        )
        stack.push_async_callback(context.close)
        page = context.pages[0]
        await page.goto(await asyncio.to_thread(link, platform))
        await page.get_by_role("link", name="echo", exact=True).click()
        rows = page.get_by_role("region", name="Sessions").first.locator("tbody tr")
        await rows.nth(sessions - 1).wait_for()
        await page.wait_for_timeout(5000)
        pids = chromium_pids(str(profile))
        shown, served = cpu_s(pids), cpu_s(serving)
        await asyncio.sleep(SECONDS)
        shown, served = cpu_s(pids) - shown, cpu_s(serving) - served
    print(f"{sessions} sessions, each with a socket that says something once a second")
    print(f"the browser, all its {len(pids)} processes: {100 * shown / SECONDS:.1f} % of a core")
    print(
        f"the platform: {100 * served / SECONDS:.1f} % of a core, "
        f"{100 * alone / SECONDS:.1f} % without the page"
    )


def main(sessions: int) -> None:
    with tempfile.TemporaryDirectory(prefix="trunkline-") as name:
        folder = Path(name)
        platform = Platform(folder / "state").start()
        try:
            platform.deploy(ROOT / "samples" / "echo")
            asyncio.run(measure(platform, sessions, folder / "profile"))
        finally:
            platform.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
