"""The voice sample in Chromium: speech is understood, answered, heard, and interrupted."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.chromium import chromium
from tests.support.console import LISTEN, Watch, latency_ms, signed_in, wait_until
from tests.support.platform import Platform
from tests.support.spoken import SAMPLE, clips_of, pause, write_microphone

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
QUESTION, LONG_QUESTION, INTERRUPTION = "Tell me the weather in Paris.", "Tell me a story.", "Stop."


def words(sentence: str) -> str:
    """Return a sentence without its stop: which one it hears is the engine's affair."""
    return sentence.rstrip(".")


def test_a_spoken_conversation(platform: Platform, tmp_path: Path) -> None:
    clips = clips_of([QUESTION, LONG_QUESTION, INTERRUPTION], tmp_path)
    wav = write_microphone(
        tmp_path / "microphone.wav",
        pause(6),
        clips[QUESTION].pcm,
        pause(7),
        clips[LONG_QUESTION].pcm,
        pause(4),
        clips[INTERRUPTION].pcm,
        pause(5),
    )
    platform.deploy(SAMPLE)
    watch = Watch()
    with chromium(wav) as browser:
        page = signed_in(browser, platform, watch)
        page.get_by_role("link", name="Talk to voice").click()
        page.get_by_role("button", name="Talk", exact=True).click()
        said = page.get_by_role("log", name="Transcript")
        expect(said.locator(".you").first).to_contain_text(words(QUESTION), timeout=30_000)
        expect(said.locator(".agent").first).to_contain_text("Paris")
        heard = wait_until(page, lambda: _speaks(page))
        assert heard["rms"] > 0.01
        last = page.locator(".tile").filter(has_text="Last answer").locator("strong")
        assert 300 < latency_ms(last.inner_text()) < 3000

        expect(said.locator(".you").nth(1)).to_contain_text(words(LONG_QUESTION), timeout=30_000)
        expect(said).to_contain_text("Interrupted after", timeout=30_000)
        # It says a word to being stopped; the story must not go on.
        expect(said.locator(".you").nth(2)).to_contain_text("Stop", timeout=10_000)
        wait_until(page, lambda: page.evaluate(LISTEN, [0, 512])["rms"] < 1e-3)
        page.get_by_role("button", name="Hang up").click()
        page.locator(".title a.mono").click()
        expect(page.get_by_role("log", name="Log")).to_contain_text(words(QUESTION))
        expect(page.locator(".connections li").first).to_contain_text("1000")
    assert watch.hosts() == {platform.url.removeprefix("http://")}
    assert watch.problems == []


def _speaks(page: Page) -> dict[str, float] | None:
    heard = page.evaluate(LISTEN, [0, 2048])
    return heard if heard is not None and heard["rms"] > 0.01 else None
