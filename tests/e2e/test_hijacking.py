"""Pages of other sites, in a real browser, against the platform and against ``trunkline proxy``."""

import html
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.test_proxy import proxy as _proxy
from tests.support.chromium import chromium
from tests.support.platform import Platform

proxy = _proxy
#: Opens a WebSocket as a page does, and tells what became of it.
OPEN = """
([url, protocols]) => new Promise(done => {
  const socket = new WebSocket(url, protocols);
  socket.onopen = () => { done(["open", socket.protocol]); socket.close(); };
  socket.onclose = event => done(["closed", event.code]);
})
"""
ASK = """
async ([url, options]) => {
  try { const answer = await fetch(url, options); return [answer.type, answer.status]; }
  catch (error) { return ["failed", 0]; }
}
"""


class _Empty(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", "15")
        self.end_headers()
        self.wfile.write(b"<!doctype html>")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """A site that serves an empty page; which site it is, the name in the address says."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(None, "--host-resolver-rules=MAP evil.example 127.0.0.1") as browser:
        yield browser


@pytest.fixture
def evil(browser: Browser, site: int) -> Iterator[Page]:
    page = browser.new_page()
    page.goto(f"http://evil.example:{site}/")
    yield page
    page.close()


@pytest.fixture
def friend(browser: Browser, site: int) -> Iterator[Page]:
    page = browser.new_page()
    page.goto(f"http://localhost:{site}/")
    yield page
    page.close()


def ticket(platform: Platform, probe: str, token: str, **body: str) -> str:
    answer = httpx2.post(
        f"{platform.endpoint}/agents/{probe}/endpoint/tickets",
        params={"api-version": "v1"}, json=body, trust_env=False,
        headers={"Authorization": f"Bearer {token}"},
    )  # fmt: skip
    return str(answer.json()["ticket"])


def test_a_page_of_this_machine_gets_in_by_a_ticket_once(
    friend: Page, platform: Platform, probe: str, token: str
) -> None:
    origin = friend.evaluate("location.origin")
    made = ticket(platform, probe, token, origin=origin)
    protocols = [f"trunkline.ticket.{made}", "trunkline.ticket"]
    url = platform.websocket_url(probe)
    assert friend.evaluate(OPEN, [url, protocols]) == ["open", "trunkline.ticket"]
    assert friend.evaluate(OPEN, [url, protocols]) == ["closed", 1006]
    again = ticket(platform, probe, token, origin=origin)
    assert friend.evaluate(OPEN, [f"{url}&ticket={again}", []]) == ["open", ""]


@pytest.mark.parametrize("place", ["127.0.0.1", "localhost", "evil.example"])
def test_another_sites_page_does_not_get_in_even_with_a_ticket(
    evil: Page, platform: Platform, probe: str, token: str, place: str
) -> None:
    made = ticket(platform, probe, token)
    url = platform.websocket_url(probe).replace("127.0.0.1", place)
    protocols = [f"trunkline.ticket.{made}", "trunkline.ticket"]
    refused = platform.log().count("code=origin_not_allowed")
    assert evil.evaluate(OPEN, [url, protocols]) == ["closed", 1006]
    assert platform.log().count("code=origin_not_allowed") == refused + 1


def test_a_page_without_an_origin_does_not_get_in(
    friend: Page, platform: Platform, probe: str, token: str
) -> None:
    made = ticket(platform, probe, token)
    arguments = [platform.websocket_url(probe, query=f"&ticket={made}"), []]
    script = f"({OPEN.strip()})({json.dumps(arguments)}).then(it => parent.postMessage(it, '*'))"
    friend.set_content(
        "<iframe sandbox='allow-scripts' srcdoc=\""
        f'<script>{html.escape(script)}</script>"></iframe>'
        "<script>window.found = new Promise(done => {"
        "window.onmessage = event => done([event.origin, event.data]) })</script>"
    )
    origin, found = friend.evaluate("window.found")
    assert origin == "null"
    assert found == ["closed", 1006]


def test_what_another_sites_page_sends_to_the_proxy_reaches_nobody(
    evil: Page, proxy: str, platform: Platform, probe: str, token: str
) -> None:
    sessions = f"/api/projects/default/agents/{probe}/endpoint/sessions"
    for place in (proxy, proxy.replace("127.0.0.1", "evil.example")):
        simple = {"method": "POST", "mode": "no-cors", "body": '{"agent_session_id": "stolen"}'}
        evil.evaluate(ASK, [f"{place}{sessions}?api-version=v1", simple])
        assert evil.evaluate(ASK, [f"{place}/api/projects/default/agents?api-version=v1", {}]) == [
            "failed", 0,
        ]  # fmt: skip
        where = urlsplit(place).netloc
        url = platform.websocket_url(probe, "stolen").replace(urlsplit(platform.url).netloc, where)
        assert evil.evaluate(OPEN, [url, []]) == ["closed", 1006]
        # A picture asks without saying where from; the browser says it is another site.
        evil.evaluate(
            "url => new Promise(done => { const image = new Image();"
            " image.onload = image.onerror = done; image.src = url; })",
            f"{place}{sessions}?api-version=v1",
        )
    listed = httpx2.get(
        f"{platform.url}{sessions}",
        params={"api-version": "v1"}, headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
    )  # fmt: skip
    assert "stolen" not in listed.text


def test_a_page_of_this_machine_talks_through_the_proxy(
    friend: Page, proxy: str, platform: Platform, probe: str
) -> None:
    where = urlsplit(proxy).netloc
    url = platform.websocket_url(probe, "mine").replace(urlsplit(platform.url).netloc, where)
    assert friend.evaluate(OPEN, [url, []]) == ["open", ""]
