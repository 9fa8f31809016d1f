"""Takes the pictures of samples: ``python -m tests.support.sample_pictures [voice langgraph ...]``.

Each is a screenshot of the console while somebody talks to the sample, and lies beside its README.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.support.chromium import chromium
from tests.support.console import Watch, signed_in
from tests.support.platform import Platform
from tests.support.spoken import clips_of, pause, write_microphone

SAMPLES = Path(__file__).parents[2] / "samples"
LOOK = {"viewport": {"width": 1160, "height": 780}}
QUESTION, LONG_QUESTION, INTERRUPTION = "Tell me the weather in Paris.", "Tell me a story.", "Stop."
FIRST, SECOND = "Tell me the weather in Paris.", "How many questions have I asked?"


def _said(page: Page) -> Locator:
    return page.get_by_role("log", name="Transcript")


def _conversation(page: Page) -> None:
    page.get_by_role("button", name="Talk", exact=True).click()
    expect(_said(page)).to_contain_text("Interrupted after", timeout=60_000)
    expect(_said(page).locator(".agent")).to_have_count(3, timeout=20_000)
    page.wait_for_timeout(300)


def _captions(page: Page) -> None:
    page.get_by_role("button", name="Talk", exact=True).click()
    expect(_said(page).locator(".agent")).to_have_count(2, timeout=60_000)
    # In the middle of a line that is being said.
    page.wait_for_timeout(900)


def _lending_desk(page: Page) -> None:
    for words, answer in (
        ("Have you anything about whales?", "borrow it?"),
        ("I'd like to borrow it.", "Shall I lend you"),
        ("Yes, please.", "is yours"),
        ("What have I borrowed?", "You have Moby-Dick"),
    ):
        page.get_by_label("Message").fill(words)
        page.get_by_role("button", name="Send").click()
        last = _said(page).locator(".agent:not(.partial)").last
        expect(last).to_contain_text(answer, timeout=60_000)


#: What the microphone hears, and what is done on the page.
SCENES: dict[str, tuple[tuple[float | str, ...], Callable[[Page], None]]] = {
    "voice": ((6, QUESTION, 7, LONG_QUESTION, 4, INTERRUPTION, 8), _conversation),
    "transcript": ((6, FIRST, 2, SECOND, 8), _captions),
    "langgraph": ((), _lending_desk),
}


def take(platform: Platform, name: str, folder: Path) -> None:
    spoken, act = SCENES[name]
    clips = clips_of(sorted({part for part in spoken if isinstance(part, str)}), folder)
    parts = [clips[part].pcm if isinstance(part, str) else pause(part) for part in spoken]
    wav = write_microphone(folder / f"{name}.wav", *parts) if parts else None
    platform.deploy(SAMPLES / name)
    with chromium(wav) as browser:
        page = signed_in(browser, platform, Watch(), **LOOK)
        page.get_by_role("link", name=f"Talk to {name}").click()
        act(page)
        page.screenshot(path=SAMPLES / name / "picture.png")


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="trunkline-") as where:
        folder = Path(where)
        platform = Platform(folder / "state").start()
        try:
            for name in names or SCENES:
                take(platform, name, folder)
        finally:
            platform.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
