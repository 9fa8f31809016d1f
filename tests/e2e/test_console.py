"""The console in Chromium: signing in, talking, watching, files. Nothing comes from elsewhere."""

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.e2e.conftest import AGENTS
from tests.support.chromium import babble, chromium, silence, write_wav
from tests.support.console import LISTEN, Watch, faults, latency_ms, link, signed_in, wait_until
from tests.support.platform import Platform
from trunkline.recordings.format import read_recording

TONE_HZ = 660
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def agents(platform: Platform, probe: str) -> list[str]:
    samples = AGENTS.parents[2] / "samples"
    return [probe, platform.deploy(samples / "echo")[0], platform.deploy(AGENTS / "talker")[0]]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    # A question, time for the answer to be under way, and an interruption.
    spoken = [*silence(1.0), *babble(1.2), *silence(2.5), *babble(1.0), *silence(3.0)]
    wav = write_wav(tmp_path_factory.mktemp("microphone") / "speech.wav", spoken)
    # The name of another site, for the test that attacks from there.
    with chromium(wav, "--host-resolver-rules=MAP elsewhere.example 127.0.0.1") as browser:
        yield browser


@pytest.fixture(scope="module")
def watch(platform: Platform) -> Iterator[Watch]:
    """Holds all pages of this file to it that they ask nobody else and break no rule."""
    watch = Watch()
    yield watch
    assert watch.hosts() == {platform.url.removeprefix("http://")}
    assert watch.problems == []


@pytest.fixture
def page(browser: Browser, platform: Platform, agents: list[str], watch: Watch) -> Iterator[Page]:
    assert agents
    page = signed_in(browser, platform, watch)
    yield page
    page.context.close()


def test_a_link_signs_in_once_and_leaves_nothing_behind(
    browser: Browser, platform: Platform, watch: Watch
) -> None:
    address = link(platform)
    first, second = browser.new_context(), browser.new_context()
    page = first.new_page()
    watch.on(page)
    page.goto(address)
    expect(page.get_by_role("heading", name="Agents")).to_be_visible()
    assert page.url == f"{platform.url}/console/"
    assert first.cookies() == []
    assert page.evaluate("() => localStorage.length") == 0
    page.reload()
    expect(page.get_by_role("heading", name="Agents")).to_be_visible()
    other = second.new_page()
    other.goto(address)
    expect(other.get_by_role("alert")).to_contain_text("this link was used")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.evaluate("() => sessionStorage.length") == 0
    first.close()
    second.close()


def test_a_token_signs_in(browser: Browser, platform: Platform, token: str, watch: Watch) -> None:
    context = browser.new_context()
    page = context.new_page()
    watch.on(page)
    page.goto(f"{platform.url}/console/")
    page.get_by_label("Bearer token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Agents")).to_be_visible()
    context.close()


def test_an_agent_shows_where_it_is_its_versions_and_its_sessions(
    page: Page, platform: Platform
) -> None:
    page.get_by_role("link", name="echo", exact=True).click()
    expect(page.get_by_role("heading", name="echo", level=1)).to_be_focused()
    expect(page.locator(".endpoints")).to_contain_text(platform.websocket_url("echo"))
    expect(page.get_by_role("row", name="1 active").first).to_contain_text("100 %")
    page.get_by_role("button", name="Build log of version 1").click()
    expect(page.get_by_label("Build log", exact=True)).to_contain_text("building echo version 1")


@pytest.mark.parametrize("size", SIZES)
def test_why_a_version_couldnt_be_built_is_there_to_be_read(
    page: Page, platform: Platform, size: str, tmp_path: Path
) -> None:
    (tmp_path / "main.py").touch()
    (tmp_path / "requirements.txt").write_text("./a-folder-that-is-not-there-and-has-a-long-name\n")
    (tmp_path / "agent.yaml").write_text(
        "kind: hosted\nname: unbuilt\nprotocols: [{protocol: invocations_ws, version: 1.0.0}]\n"
    )
    assert platform.run("deploy", str(tmp_path)).code == 1
    page.set_viewport_size(SIZES[size])
    page.goto(f"{platform.url}/console/#/agents/unbuilt")
    why = page.locator("td.words .dim").first
    expect(why).to_contain_text("couldn't be built")
    box, card = why.bounding_box(), page.locator(".table-box").first.bounding_box()
    assert box is not None
    assert card is not None
    assert box["x"] + box["width"] <= card["x"] + card["width"]


def test_what_isnt_there_is_said_and_nothing_else(page: Page, platform: Platform) -> None:
    for path, named in (
        ("agents/nosuch", "no agent"),
        ("agents/echo/sessions/nosuch", "no session"),
    ):
        page.goto(f"{platform.url}/console/#/{path}")
        expect(page.get_by_role("alert")).to_contain_text(named)
        expect(page.locator("main .card").locator("visible=true")).to_have_count(0)
        expect(page.get_by_role("link", name="Talk")).to_have_count(0)
    page.get_by_role("link", name="echo", exact=True).click()
    expect(page.get_by_role("heading", name="Versions")).to_be_visible()


def test_words_go_both_ways_and_every_frame_can_be_looked_at(page: Page) -> None:
    page.get_by_role("link", name="Talk to echo").click()
    page.get_by_label("Message").fill('{"a": [1, 2]}')
    page.get_by_role("button", name="Send").click()
    said = page.get_by_role("log", name="Transcript")
    expect(said.locator(".agent")).to_contain_text('{"a": [1, 2]}')
    page.locator(".frames").get_by_role("button").first.click()
    expect(page.get_by_label("The chosen frame")).to_contain_text('"a": [\n    1,')
    page.get_by_role("button", name="Hang up").click()
    expect(said).to_contain_text("Closed with 1000: the conversation ended normally")


def test_the_first_words_are_sent_as_the_agent_takes_them(page: Page) -> None:
    page.get_by_role("link", name="Talk to talker").click()
    page.get_by_label("Message").fill("hello")
    page.get_by_role("button", name="Send").click()
    sent = page.locator(".frames").get_by_role("row", name="up")
    expect(sent).to_contain_text('{"type":"text","content":"hello"}', timeout=20_000)
    page.get_by_role("button", name="Hang up").click()


def test_a_session_shows_its_log_its_files_and_why_calls_ended(page: Page, tmp_path: Path) -> None:
    page.get_by_role("link", name="Talk to probe").click()
    message = page.get_by_label("Message")
    for words in ("say knock knock", "remember the milk", "raise oh dear"):
        message.fill(words)
        message.press("Enter")
        expect(page.locator(".transcript .you").last).to_contain_text(words)
    said = page.get_by_role("log", name="Transcript")
    expect(said).to_contain_text("Closed with 1011: the agent failed")
    page.locator(".title a.mono").click()

    log = page.get_by_role("log", name="Log")
    expect(log).to_contain_text("knock knock")
    page.get_by_label("Filter the log").fill("KNOCK")
    expect(log.get_by_role("listitem")).to_have_count(1)
    page.get_by_label("system").check()
    page.get_by_label("Filter the log").fill("")
    expect(log).to_contain_text("ConnectionClosed")
    ended = page.locator(".connections li").first
    expect(ended).to_contain_text("1011")
    expect(ended).to_contain_text("the agent closed it")
    expect(ended).to_contain_text("up 4 frames")

    note = tmp_path / "note.txt"
    note.write_bytes(b"\x00all of it\xff" * 1000)
    page.get_by_label("Files to upload").set_input_files(note)
    expect(page.get_by_role("row", name="note.txt")).to_contain_text("11 KiB")
    with page.expect_download() as coming:
        page.get_by_role("button", name="Download note.txt").click()
    assert coming.value.path().read_bytes() == note.read_bytes()
    expect(page.get_by_role("row", name="memory")).to_be_visible()
    page.get_by_role("button", name="Delete note.txt").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("row", name="note.txt")).to_have_count(0)

    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="probe", level=1)).to_be_visible()


def test_a_session_shows_what_it_uses_and_what_goes_over_it_now(
    page: Page, platform: Platform, token: str
) -> None:
    with connect(
        platform.websocket_url("probe", "watched"),
        additional_headers={"Authorization": f"Bearer {token}"},
        proxy=None,
        open_timeout=60,
    ) as socket:
        page.goto(f"{platform.url}/console/#/agents/probe/sessions/watched")
        now = page.get_by_role("region", name="Now", exact=True)
        expect(tile(now, "Sockets open")).to_have_text("1")
        expect(tile(now, "Memory")).to_contain_text(" of ")
        expect(tile(now, "Processor")).to_contain_text("% of")
        expect(page.locator(".connections li").first).to_contain_text("it goes on")
        for _ in range(40):
            socket.send("x" * 1000)
            socket.recv()
        expect(tile(now, "Sent to the agent")).to_have_text("40 · 39 KiB")
        now.get_by_text("As numbers").click()
        rows = now.get_by_role("region", name="as numbers").locator("tbody tr")
        expect(rows.first).to_contain_text("ago")
        page.goto(f"{platform.url}/console/#/agents/probe")
        row = page.get_by_role("row", name="watched")
        expect(row.locator("td").nth(2)).to_have_text("1")
        expect(row.locator("td").nth(5)).to_contain_text("%")
        expect(row.locator("td").nth(6)).to_contain_text("iB")
        for _ in range(40):
            socket.send("x")
            socket.recv()
        # They came between two looks, and count once.
        expect(row.locator("td").nth(3)).not_to_have_text("0", timeout=10_000)
        page.goto(f"{platform.url}/console/#/")
        probe = page.locator("li.agent").filter(
            has=page.get_by_role("link", name="probe", exact=True)
        )
        expect(probe).to_contain_text("1 socket open")
        errors = errors_today(probe)
        socket.send("raise oh dear")
        with contextlib.suppress(ConnectionClosed):
            socket.recv()
    expect(probe).to_contain_text("0 sockets open")
    expect(probe).to_contain_text(re.compile(rf"(?<!\d){errors + 1} errors? today"))
    page.goto(f"{platform.url}/console/#/agents/probe/sessions/watched")
    expect(page.locator(".connections li").first).to_contain_text("1011")
    expect(tile(now, "Sockets open")).to_have_text("0")


def errors_today(agent: Locator) -> int:
    found = re.search(r"(\d+) errors? today", agent.inner_text())
    return 0 if found is None else int(found[1])


def tile(within: Locator, name: str) -> Locator:
    return within.locator(".tile").filter(has_text=name).locator("strong")


def test_what_a_page_records_the_command_replays_and_the_other_way_round(
    page: Page, platform: Platform, tmp_path: Path
) -> None:
    page.get_by_role("link", name="Talk to echo").click()
    page.get_by_role("button", name="Record").click()
    message, said = page.get_by_label("Message"), page.get_by_role("log", name="Transcript")
    for words in ("hello", "grüße, 世界", "x" * 70_000):
        message.fill(words)
        message.press("Enter")
        expect(said.locator(".agent").last).to_contain_text(words)
    with page.expect_download() as coming:
        page.get_by_role("button", name="Save recording").click()
    assert coming.value.suggested_filename.endswith(".trk")
    recorded = tmp_path / "page.trk"
    coming.value.save_as(recorded)
    page.get_by_role("button", name="Hang up").click()

    replayed = platform.run("replay", str(recorded), "echo")
    assert replayed.code == 0, f"{replayed.stdout}{replayed.stderr}"
    # It isn't that nothing was compared: another agent answers otherwise.
    other = platform.run("replay", str(recorded), "probe", "--linger-s", "0.3")
    assert other.code == 4, f"{other.stdout}{other.stderr}"
    sent = read_recording(recorded).messages(from_agent=False)
    assert [each.message for each in sent] == ["hello", "grüße, 世界", "x" * 70_000]

    written = tmp_path / "command.trk"
    done = platform.run("record", str(written), "echo", stdin="from the shell\nand again\n")
    assert done.code == 0, done.stderr
    page.get_by_label("A recording to replay").set_input_files(written)
    expect(said).to_contain_text("The replay is over.", timeout=20_000)
    expect(said.locator(".agent").nth(-1)).to_contain_text("and again")
    expect(said.locator(".agent").nth(-2)).to_contain_text("from the shell")
    broken = tmp_path / "broken.trk"
    broken.write_bytes(b"RIFF, and no recording")
    page.get_by_label("A recording to replay").set_input_files(broken)
    expect(page.get_by_text("this is no recording of version 1")).to_be_visible()


def test_a_stopped_session_is_come_back_to(page: Page, platform: Platform, token: str) -> None:
    page.get_by_role("link", name="Talk to probe").click()
    message = page.get_by_label("Message")
    message.fill("remember me")
    message.press("Enter")
    expect(page.locator(".transcript .agent")).to_contain_text("remembered")
    session_id = page.locator(".title a.mono").inner_text()
    stopped = page.request.post(
        f"{platform.endpoint}/agents/probe/endpoint/sessions/{session_id}:stop?api-version=v1",
        headers={"authorization": f"Bearer {token}"},
    )
    assert stopped.status == 204
    said = page.get_by_role("log", name="Transcript")
    expect(said).to_contain_text("The connection was lost (1001")
    expect(page.locator(".title .pill")).to_have_text("open", timeout=20_000)
    message.fill("recall")
    message.press("Enter")
    expect(page.locator(".transcript .agent").last).to_contain_text('"me"')


def test_speech_is_answered_heard_and_interrupted(page: Page) -> None:
    page.get_by_role("link", name="Talk to talker").click()
    page.get_by_role("button", name="Talk", exact=True).click()
    said = page.get_by_role("log", name="Transcript")
    expect(said).to_contain_text("s of speech", timeout=20_000)
    heard = wait_until(page, lambda: _loud(page))
    assert abs(heard["hz"] - TONE_HZ) < 30, heard
    tiles = page.locator(".tile")
    last = tiles.filter(has_text="Last answer").locator("strong")
    # The agent waits for 0.4 s of silence; what is left is the way there and back.
    assert 350 < latency_ms(last.inner_text()) < 3000

    expect(said).to_contain_text("Interrupted", timeout=20_000)
    wait_until(page, lambda: page.evaluate(LISTEN, [TONE_HZ, 512])["rms"] < 1e-3, timeout_s=1)
    silenced = tiles.filter(has_text="Silent after").locator("strong")
    assert latency_ms(silenced.inner_text()) < 2500
    page.get_by_label("binary frames, too").check()
    page.locator(".frames").get_by_role("button").first.click()
    expect(page.get_by_label("The chosen frame")).to_contain_text("000000  ")
    page.get_by_role("button", name="Hang up").click()
    expect(said).to_contain_text("Closed with 1000")


def _loud(page: Page) -> dict[str, float] | None:
    heard = page.evaluate(LISTEN, [TONE_HZ, 2048])
    return heard if heard is not None and heard["rms"] > 0.05 else None


@pytest.mark.parametrize(("scheme", "size"), [("light", "desktop"), ("dark", "phone")])
def test_no_page_has_a_serious_accessibility_fault_or_scrolls_sideways(
    browser: Browser, platform: Platform, agents: list[str], watch: Watch, scheme: str, size: str
) -> None:
    page = browser.new_context(color_scheme=scheme, viewport=SIZES[size]).new_page()
    watch.on(page)
    page.goto(f"{platform.url}/console/")
    found = {"sign in": look(page)}
    page.goto(link(platform))
    page.get_by_role("link", name="Talk to echo").wait_for()
    found["agents"] = look(page)
    page.get_by_role("link", name="echo", exact=True).click()
    page.get_by_role("row", name="1 active").first.wait_for()
    found["agent"] = look(page)
    page.get_by_role("link", name="Talk", exact=True).click()
    page.get_by_label("Message").fill("hello")
    page.get_by_role("button", name="Send").click()
    page.locator(".transcript .agent").wait_for()
    found["talk"] = look(page)
    page.locator(".title a.mono").click()
    page.get_by_role("heading", name="Connections").wait_for()
    page.get_by_text("As numbers").click()
    found["session"] = look(page)
    page.get_by_role("link", name="echo", exact=True).click()
    page.get_by_role("row", name="active").nth(1).wait_for()
    for numbers in page.get_by_text("As numbers").all():
        numbers.click()
    found["agent with sessions"] = look(page)
    assert {where: wrong for where, wrong in found.items() if wrong} == {}
    page.context.close()


def look(page: Page) -> list[str]:
    wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    return faults(page) + ([f"scrolls sideways by {wide} px"] if wide > 0 else [])


def test_the_keyboard_gets_everywhere(page: Page) -> None:
    page.get_by_role("link", name="Talk to echo").wait_for()
    page.locator("body").press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_visible()
    page.get_by_role("link", name="Talk to echo").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Message").focus()
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    expect(page.locator(".transcript .agent")).to_contain_text("by keyboard")
    page.get_by_text("As numbers").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="as numbers").get_by_role("row").nth(1)).to_be_visible()


def test_a_rate_is_known_from_the_second_look_and_a_counter_may_begin_again(page: Page) -> None:
    rates = page.evaluate(
        """async () => {
          const { Rate } = await import("/console/parts/rates.js");
          const rate = new Rate();
          const looks = [[10, 0], [30, 1000], [5, 2000], [5, 2000], [6, 2500]];
          return looks.map(([value, at]) => String(rate.of(value, at)));
        }"""
    )
    assert rates == ["NaN", "20", "5", "NaN", "2"]


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A page of another site, which a browser reaches under a name of its own."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://elsewhere.example:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


ATTACK = """async ([platform, key, socket, ticket]) => {
  const post = (path, type, mode) => fetch(platform + "/console/" + path, {
    method: "POST", mode, headers: { "content-type": type }, body: JSON.stringify({ key }),
  }).then((r) => r.type === "opaque" ? "sent" : "read", () => "failed");
  const open = (protocols) => new Promise((done) => {
    const s = new WebSocket(socket, protocols);
    s.onopen = () => done("open");
    s.onclose = () => done("closed");
  });
  const frame = document.createElement("iframe");
  frame.src = platform + "/console/";
  document.body.append(frame);
  await new Promise((done) => (frame.onload = done));
  let framed = "blocked";
  try { if (frame.contentDocument?.title === "trunkline") framed = "read"; } catch {}
  return {
    json: await post("sign-in", "application/json", "cors"),
    form: await post("sign-in", "text/plain", "no-cors"),
    page: await fetch(platform + "/console/").then(() => "read", () => "failed"),
    bare: await open([]),
    ticket: await open(["trunkline.ticket." + ticket, "trunkline.ticket"]),
    framed,
  };
}"""


def test_pages_of_other_sites_get_nowhere(
    browser: Browser, platform: Platform, agents: list[str], token: str, elsewhere: str
) -> None:
    assert "echo" in agents
    address = link(platform)
    key = address.partition("#key=")[2]
    page = browser.new_page()
    made = page.request.post(
        f"{platform.endpoint}/agents/echo/endpoint/tickets?api-version=v1",
        headers={"authorization": f"Bearer {token}"},
        data={},
    )
    page.goto(elsewhere)
    got = page.evaluate(
        ATTACK, [platform.url, key, platform.websocket_url("echo"), made.json()["ticket"]]
    )
    assert got == {
        "json": "failed", "form": "sent", "page": "failed",
        "bare": "closed", "ticket": "closed", "framed": "blocked",
    }  # fmt: skip
    assert "origin_not_allowed" in platform.log()
    # What was tried didn't use the link up, either.
    page.goto(address)
    expect(page.get_by_role("heading", name="Agents")).to_be_visible()
    page.close()
