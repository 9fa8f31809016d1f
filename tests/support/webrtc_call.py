"""One call to the WebRTC sample in Chromium, where there is no network but loopback.

``unshare --net python -m tests.support.webrtc_call STATE_DIR MICROPHONE`` prints what was said and
how loud the answer was at the page's end, as JSON.
"""

import fcntl
import json
import socket
import struct
import subprocess
import sys
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.support.chromium import chromium
from tests.support.console import wait_until
from tests.support.platform import Platform, clean_environment
from tests.support.spoken import SAMPLE

PAGE_FOLDER = SAMPLE.parent / "webrtc-signalling" / "page"
SERVE = (SAMPLE / "page" / "serve.py", "--agent", "webrtc", "--page", PAGE_FOLDER)
#: Media has no way into the network of its own that a sandboxed agent has otherwise.
NETWORK = {"TRUNKLINE_PROCESS_NETWORK": "host"}
PAGE = "http://127.0.0.1:8090/"
_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 0x1, 0x40
LISTEN = """() => {
  const stream = document.getElementById("heard").srcObject;
  if (!stream) return 0;
  if (!window.ears) {
    const context = new AudioContext();
    window.ears = context.createAnalyser();
    context.createMediaStreamSource(stream).connect(window.ears);
  }
  const wave = new Float32Array(window.ears.fftSize);
  window.ears.getFloatTimeDomainData(wave);
  return Math.sqrt(wave.reduce((sum, v) => sum + v * v, 0) / wave.length);
}"""


def call(page: Page) -> dict[str, object]:
    page.goto(PAGE)
    page.get_by_role("button", name="Call").click()
    expect(page.locator("#state")).to_have_text("connected", timeout=30_000)
    page.evaluate(LISTEN)
    # The microphone says it again every twenty seconds.
    expect(page.locator(".transcription").first).to_be_visible(timeout=90_000)
    expect(page.locator(".bot_text").first).to_be_visible(timeout=90_000)
    loudness = wait_until(page, lambda: (rms := page.evaluate(LISTEN)) > 0.01 and rms)
    said = page.locator("#said li").all_inner_texts()
    page.get_by_role("button", name="Hang up").click()
    expect(page.locator("#state")).to_have_text("not connected")
    return {"said": said, "loudness": loudness}


def main(state_dir: Path, microphone: Path) -> None:
    bring_loopback_up()
    platform = Platform(state_dir, **NETWORK).start()
    environment = clean_environment() | {
        "TRUNKLINE_ENDPOINT": platform.endpoint,
        "TRUNKLINE_HOME": str(state_dir),
    }
    command = [sys.executable, *map(str, SERVE)]
    serving = subprocess.Popen(command, env=environment, stderr=sys.stderr)
    try:
        with chromium(microphone, "--allow-loopback-in-peer-connection") as browser:
            page = browser.new_page()
            wait_until(page, _answers)
            try:
                done = call(page)
            finally:
                log = platform.run("monitor", "webrtc", "--tail", "40")
                sys.stderr.write(f"{log.stdout}{log.stderr}")
        print(json.dumps({**done, "has_only_loopback": _is_alone()}))
    finally:
        serving.terminate()
        serving.wait()
        platform.stop()


def _answers() -> bool:
    try:
        with urllib.request.urlopen(PAGE, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def bring_loopback_up() -> None:
    """Set the flags of ``lo``, as ``ip link set lo up`` does (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", _IFF_UP | _IFF_RUNNING)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def _is_alone() -> bool:
    # Two lines of headings, then one for each interface.
    shown = Path("/proc/net/dev").read_text().splitlines()[2:]
    return [line.partition(":")[0].strip() for line in shown] == ["lo"]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
