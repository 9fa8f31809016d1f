"""What tests of the console share: signing in, and looking at what a page did."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page

from tests.support.platform import Platform

AXE = Path(__file__).parents[2] / ".cache" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
#: How loud a frequency is in what the loudspeaker gets, and how loud all of it is.
LISTEN = """([hz, fftSize]) => {
  const analyser = document.querySelector("canvas.voice").voice.analyser;
  if (!analyser) return null;
  analyser.fftSize = fftSize;
  const wave = new Float32Array(analyser.fftSize);
  analyser.getFloatTimeDomainData(wave);
  const rms = Math.sqrt(wave.reduce((sum, v) => sum + v * v, 0) / wave.length);
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  const loudest = bins.indexOf(Math.max(...bins));
  return { rms, hz: (loudest * analyser.context.sampleRate) / analyser.fftSize };
}"""


@dataclass
class Watch:
    """Everything a page asked for, and everything that went wrong in it."""

    requests: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    """Those that scripts made; the others are pages and what belongs to them."""
    problems: list[str] = field(default_factory=list)

    def on(self, page: Page) -> None:
        page.on("request", self._asked)
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._said)

    def _asked(self, request: Any) -> None:
        self.requests.append(request.url)
        if request.resource_type in ("fetch", "xhr"):
            self.fetched.append(request.url)

    def _said(self, message: Any) -> None:
        # A refused request is reported as an error by the browser, and shown by the page.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.problems.append(message.text)

    def hosts(self) -> set[str]:
        urls = [url for url in self.requests if not url.startswith(("blob:", "data:"))]
        return {urlsplit(url).netloc for url in urls}


def link(platform: Platform) -> str:
    done = platform.run("console", "--state-dir", str(platform.state_dir))
    assert done.code == 0, done.stderr
    return done.stdout.strip()


def signed_in(browser: Browser, platform: Platform, watch: Watch, **context: Any) -> Page:
    page = browser.new_context(**context).new_page()
    watch.on(page)
    page.goto(link(platform))
    page.get_by_role("heading", name="Agents").wait_for()
    return page


def faults(page: Page) -> list[str]:
    """Return the accessibility faults that axe-core calls serious or worse."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{fault['id']}: {fault['help']} ({node['html'][:120]})"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


def wait_until(page: Page, condition: Callable[[], Any], timeout_s: float = 15) -> Any:
    """Wait for something that isn't in the page's own tree."""
    for _ in range(int(timeout_s / 0.02)):
        if found := condition():
            return found
        page.wait_for_timeout(20)
    raise AssertionError("it didn't happen in time")


def latency_ms(text: str) -> float:
    """Read a time as the page writes it."""
    match = re.fullmatch(r"([\d.]+) (ms|s)", text)
    assert match is not None, text
    return float(match[1]) * (1 if match[2] == "ms" else 1000)
