"""Takes the pictures of samples: ``python -m tests.support.sample_pictures [voice langgraph ...]``.

Each is a screenshot while somebody talks to the sample, and lies beside its README.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.support.chromium import chromium
from tests.support.console import Watch, signed_in
from tests.support.platform import Platform, clean_environment
from tests.support.served import served
from tests.support.spoken import clips_of, pause, write_microphone

SAMPLES = Path(__file__).parents[2] / "samples"
WEBRTC = "webrtc-signalling"
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
    # One line is said, and another is in the middle of it.
    expect(_said(page).locator(".agent.partial")).to_contain_text("weather", timeout=60_000)
    expect(_said(page).locator(".agent.partial")).to_contain_text("How many", timeout=60_000)


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
    "pipecat": ((8, QUESTION, 7, LONG_QUESTION, 4, INTERRUPTION, 8), _conversation),
    "transcript": ((6, FIRST, 2, SECOND, 8), _captions),
    "langgraph": ((), _lending_desk),
}


def deploy(platform: Platform, name: str) -> None:
    script = SAMPLES / name / "deploy.py"
    if not script.exists():
        platform.deploy(SAMPLES / name)
        return
    where = {
        "TRUNKLINE_ENDPOINT": platform.endpoint,
        "TRUNKLINE_HOME": str(platform.state_dir),
        "WEBRTC_ADDRESSES": "127.0.0.1",
    }
    subprocess.run(
        [sys.executable, str(script)], check=True, env=clean_environment() | where, timeout=400
    )


def microphone(spoken: tuple[float | str, ...], folder: Path) -> Path | None:
    """Return a file of sentences and of pauses in seconds."""
    if not spoken:
        return None
    clips = clips_of(sorted({part for part in spoken if isinstance(part, str)}), folder)
    parts = [clips[part].pcm if isinstance(part, str) else pause(part) for part in spoken]
    return write_microphone(folder / "microphone.wav", *parts)


def take(platform: Platform, name: str, folder: Path) -> None:
    spoken, act = SCENES[name]
    deploy(platform, name)
    with chromium(microphone(spoken, folder)) as browser:
        page = signed_in(browser, platform, Watch(), **LOOK)
        page.get_by_role("link", name=f"Talk to {name}").click()
        act(page)
        page.screenshot(path=SAMPLES / name / "picture.png")


def take_webrtc(platform: Platform, folder: Path) -> None:
    """Take the picture of the one sample that has a page instead of the console's."""
    deploy(platform, WEBRTC)
    heard = microphone((8, QUESTION, 8), folder)
    script, folder = SAMPLES / "voice" / "page" / "serve.py", SAMPLES / WEBRTC / "page"
    options = ("--agent", "webrtc", "--page", str(folder))
    with served(platform, script, *options) as address, chromium(heard) as browser:
        page = browser.new_context(viewport={"width": 700, "height": 420}).new_page()
        page.goto(address)
        page.get_by_role("button", name="Call").click()
        expect(page.locator(".bot_text")).to_be_visible(timeout=60_000)
        page.screenshot(path=SAMPLES / WEBRTC / "picture.png")


def main(names: list[str]) -> None:
    names = names or [*SCENES, WEBRTC]
    with tempfile.TemporaryDirectory(prefix="trunkline-") as where:
        # WebRTC's sound has no way into the network of its own that an agent has otherwise.
        network = {"TRUNKLINE_PROCESS_NETWORK": "host"} if WEBRTC in names else {}
        platform = Platform(Path(where) / "state", **network).start()
        try:
            for name in names:
                if name == WEBRTC:
                    take_webrtc(platform, Path(where))
                else:
                    take(platform, name, Path(where))
        finally:
            platform.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
