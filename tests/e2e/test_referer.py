"""What a browser says of the page it comes from never holds what lets somebody in."""

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.test_hijacking import ASK, OPEN, ticket
from tests.support.chromium import chromium
from tests.support.platform import Platform


class Site:
    """A site of somebody else that writes down what its visitors' browsers say they come from."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers.get("referer")))
                self.send_response(200)
                self.send_header("access-control-allow-origin", "*")
                self.send_header("content-type", "text/html")
                self.send_header("content-length", "15")
                self.end_headers()
                self.wfile.write(b"<!doctype html>")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self.server.server_address[1]}"

    def said(self, path: str) -> str | None:
        """Return what was said at one path; None if nothing was."""
        (found,) = [referer for asked, referer in self.asked if asked == path]
        return found


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    with site.server as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield site
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def test_the_console_says_nothing_of_where_one_comes_from(
    page: Page, site: Site, platform: Platform
) -> None:
    """Neither to the platform nor to a site, also with a provider's code in its address."""
    said: dict[str, str] = {}
    page.on("request", lambda it: said.update({it.url: it.all_headers().get("referer", "")}))
    page.goto(f"{platform.url}/console/?code=c0de&state=st4te#key=k3y", wait_until="networkidle")
    assert len(said) > 3
    assert set(said.values()) == {""}
    page.evaluate(
        "url => { const link = document.body.appendChild(document.createElement('a'));"
        " link.href = url; link.click(); }",
        f"{site.url}/left",
    )
    page.wait_for_url(f"{site.url}/left")
    assert site.said("/left") is None


def test_a_ticket_in_a_websockets_address_is_in_no_referer(
    page: Page, site: Site, platform: Platform, probe: str, token: str
) -> None:
    """Not even of a page that sends whole addresses to everybody."""
    page.goto(f"{site.url}/app?page=1")
    page.evaluate(
        "() => { const meta = document.head.appendChild(document.createElement('meta'));"
        " meta.name = 'referrer'; meta.content = 'unsafe-url'; }"
    )
    made = ticket(platform, probe, token)
    url = platform.websocket_url(probe, query=f"&ticket={made}")
    assert page.evaluate(OPEN, [url, []]) == ["open", ""]
    assert page.evaluate(ASK, [f"{site.url}/fetched", {}])[1] == 200
    page.evaluate("url => { location.href = url; }", f"{site.url}/next")
    page.wait_for_url(f"{site.url}/next")
    # Referers are sent at all: the page's own address is in them.
    assert site.said("/next") == site.said("/fetched") == f"{site.url}/app?page=1"
    assert made not in str(site.asked)
    assert made not in platform.log()
