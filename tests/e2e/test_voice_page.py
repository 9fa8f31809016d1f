"""The voice sample's own page in Chromium: spoken to, heard, interrupted, and written to."""

from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import AGENTS
from tests.support.chromium import babble, chromium, silence, write_wav
from tests.support.console import Watch, faults, wait_until
from tests.support.platform import Platform
from tests.support.served import folder_served, proxied, served
from tests.support.spoken import SAMPLE, clips_of, pause, write_microphone

pytestmark = pytest.mark.timeout(600)
SERVE = SAMPLE / "page" / "serve.py"
QUESTION, LONG_QUESTION, INTERRUPTION = "Tell me the weather in Paris.", "Tell me a story.", "Stop."
LISTEN = """() => {
  const wave = new Float32Array(512);
  document.getElementById("said").analyser.getFloatTimeDomainData(wave);
  return Math.sqrt(wave.reduce((sum, v) => sum + v * v, 0) / wave.length);
}"""


def test_its_page_with_an_agent_without_models(platform: Platform, tmp_path: Path) -> None:
    spoken = [*silence(1.0), *babble(1.2), *silence(2.5), *babble(1.0), *silence(3.0)]
    wav = write_wav(tmp_path / "microphone.wav", spoken)
    platform.deploy(AGENTS / "talker")
    watch = Watch()
    with served(platform, SERVE, "--agent", "talker") as address, chromium(wav) as browser:
        page = browser.new_page()
        watch.on(page)
        page.goto(address)
        assert faults(page) == []
        page.get_by_role("button", name="Call").click()
        said = page.get_by_role("log", name="Transcript").locator("li")
        expect(said.nth(0)).to_contain_text("s of speech", timeout=30_000)
        expect(said.nth(1)).to_have_text("Agenta tone")
        wait_until(page, lambda: loudness(page) > 0.1)
        expect(said.nth(2)).to_have_class("interrupted", timeout=20_000)
        page.get_by_role("button", name="Hang up").click()
        expect(page.get_by_role("status")).to_have_text("not connected")
        cross_site = httpx2.post(
            f"{address}/ticket?session=a", headers={"sec-fetch-site": "cross-site"}, trust_env=False
        )
        assert cross_site.status_code == 403
    local = {platform.url.removeprefix("http://"), address.removeprefix("http://")}
    assert watch.hosts() == local
    assert watch.problems == []


@pytest.mark.long
def test_a_spoken_conversation(platform: Platform, tmp_path: Path) -> None:
    clips = clips_of([QUESTION, LONG_QUESTION, INTERRUPTION], tmp_path)
    wav = write_microphone(
        tmp_path / "microphone.wav",
        pause(6), clips[QUESTION].pcm, pause(7), clips[LONG_QUESTION].pcm, pause(4),
        clips[INTERRUPTION].pcm, pause(5),
    )  # fmt: skip
    platform.deploy(SAMPLE)
    watch = Watch()
    with served(platform, SERVE) as address, chromium(wav) as browser:
        page = browser.new_page()
        watch.on(page)
        page.goto(address)
        page.get_by_role("button", name="Call").click()
        expect(page.get_by_role("status")).to_have_text("connected", timeout=30_000)
        said = page.get_by_role("log", name="Transcript").locator("li")
        expect(said.nth(0)).to_contain_text(f"You{QUESTION}".rstrip("."), timeout=30_000)
        expect(said.nth(1)).to_contain_text("Paris", timeout=10_000)
        wait_until(page, lambda: loudness(page) > 0.01)

        expect(said.nth(2)).to_contain_text(f"You{LONG_QUESTION}".rstrip("."), timeout=30_000)
        expect(said.nth(4)).to_have_class("interrupted", timeout=30_000)
        expect(said.nth(5)).to_contain_text("Stop", timeout=10_000)
        expect(said.nth(6)).to_have_text("AgentOkay.", timeout=10_000)
        wait_until(page, lambda: loudness(page) < 1e-3)

        page.get_by_label("Or write").fill("How many questions have I asked?")
        page.get_by_role("button", name="Send").click()
        # The last of "Okay." is silence: that is interrupted, and what was written answered.
        expect(said.last).to_have_text("AgentThis is turn number 4.", timeout=10_000)
        page.get_by_role("button", name="Hang up").click()
        expect(page.get_by_role("status")).to_have_text("not connected")
    local = {platform.url.removeprefix("http://"), address.removeprefix("http://")}
    assert watch.hosts() == local
    assert watch.problems == []


def loudness(page: Page) -> float:
    return float(page.evaluate(LISTEN))


#: What a page does that knows nothing of trunkline: one socket, typed words up, speech and events
#: down, with the 8 bytes in front of speech that Microsoft's hello-world sample has.
PLAIN_PAGE = """(url) => new Promise((resolve, reject) => {
  const socket = new WebSocket(url);
  const seen = { types: [], formats: [], seconds: 0 };
  socket.binaryType = "arraybuffer";
  socket.onclose = ({ code, reason }) => reject(new Error(`closed with ${code} ${reason}`));
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string") {
      const header = new DataView(data, 0, 8);
      const [rate, channels] = [header.getUint32(0, true), header.getUint32(4, true)];
      if (!seen.formats.length) seen.formats.push([rate, channels]);
      seen.seconds += (data.byteLength - 8) / 2 / rate;
      return;
    }
    const event = JSON.parse(data);
    seen.types.push(event.type);
    if (event.type === "session_started") {
      socket.send(JSON.stringify({ type: "text", content: "Hello." }));
    } else if (event.type === "response_done") resolve(seen);
  };
})"""


@pytest.mark.long
def test_a_page_that_was_written_for_a_proxy_with_the_token(
    platform: Platform, tmp_path: Path
) -> None:
    platform.deploy(SAMPLE)
    (tmp_path / "index.html").write_text("<!doctype html><title>A page</title>")
    with (
        proxied(platform) as proxy,
        folder_served(platform, tmp_path) as address,
        chromium() as browser,
    ):
        page = browser.new_page()
        page.goto(address)
        url = platform.websocket_url("voice").replace(platform.url[7:], proxy[7:])
        seen = page.evaluate(PLAIN_PAGE, url)
    assert seen["types"] == ["session_started", "bot_text", "response_done"]
    assert seen["formats"] == [[24_000, 1]]
    assert seen["seconds"] > 0.5
