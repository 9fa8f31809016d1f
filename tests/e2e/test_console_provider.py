"""Signing in to the console with an OpenID Connect provider, in Chromium."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.chromium import chromium
from tests.support.console import Watch, faults, wait_until
from tests.support.oidc import StrictProvider
from tests.support.platform import Platform

AUDIENCE = "https://trunkline.example"
TOKEN_S = 4
SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="module")
def provider() -> Iterator[StrictProvider]:
    claims = {"preferred_username": "Olga", "roles": ["reader", "invoker", "deployer"]}
    provider = StrictProvider(AUDIENCE, TOKEN_S, olga=claims).start()
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def console(
    provider: StrictProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    file = folder / "providers.toml"
    file.write_text(f'[[provider]]\nissuer = "{provider.issuer}"\naudiences = ["{AUDIENCE}"]\n')
    platform = Platform(
        folder / "state",
        TRUNKLINE_AUTH_PROVIDERS_FILE=str(file),
        TRUNKLINE_CONSOLE_ISSUER=provider.issuer,
        TRUNKLINE_CONSOLE_CLIENT_ID="trunkline-console",
        TRUNKLINE_CONSOLE_PROVIDER_NAME="Example",
        # Nothing is measured without a sandbox, as on a machine that has no control groups.
        TRUNKLINE_PROCESS_SANDBOX="off",
    ).start()
    provider.add_client("trunkline-console", f"{platform.url}/console/")
    platform.deploy(SAMPLES / "echo")
    yield platform
    platform.stop()


@pytest.fixture
def watch(console: Platform, provider: StrictProvider) -> Iterator[Watch]:
    """Holds the pages to it that they go to the provider, and connect to nobody but us."""
    watch = Watch()
    yield watch
    assert watch.hosts() <= {urlsplit(url).netloc for url in (console.url, provider.issuer)}
    assert watch.problems == []
    fetched = {urlsplit(url).netloc for url in watch.fetched}
    assert fetched == {urlsplit(console.url).netloc}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, console: Platform, watch: Watch) -> Iterator[Page]:
    page = browser.new_context().new_page()
    watch.on(page)
    page.goto(f"{console.url}/console/#/agents/echo")
    yield page
    page.context.close()


def sign_in(page: Page) -> None:
    page.get_by_role("button", name="Sign in with Example").click()
    page.get_by_role("button", name="olga").click()
    expect(page.locator(".who")).to_have_text("Olga")


def held(page: Page) -> dict[str, str]:
    found: dict[str, str] = json.loads(
        page.evaluate("() => sessionStorage.getItem('trunkline.sign-in')")
    )
    return found


def test_signing_in_comes_back_to_the_page_and_leaves_no_secret_in_sight(
    page: Page, console: Platform, provider: StrictProvider, watch: Watch
) -> None:
    expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
    assert faults(page) == []
    sign_in(page)
    expect(page.get_by_role("heading", name="echo", level=1)).to_be_visible()
    expect(page.get_by_role("row", name="1 active").first).to_be_visible()
    assert page.url == f"{console.url}/console/#/agents/echo"
    (asked,) = {url for url in watch.requests if "/oauth2/authorize" in url}
    query = parse_qs(urlsplit(asked).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"] == [f"{console.url}/console/"]
    known = held(page)
    (refresh,) = provider.refresh_tokens()
    stored = page.evaluate("() => JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert refresh not in stored
    assert page.evaluate("() => localStorage.length") == 0
    assert page.evaluate("() => Object.keys(sessionStorage)") == ["trunkline.sign-in"]
    for url in watch.requests:
        assert known["token"] not in url
        assert known["renewal"] not in url
    # The provider's word counts for calls, and for sockets.
    page.get_by_role("link", name="Talk", exact=True).click()
    page.get_by_label("Message").fill("hello")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".transcript .agent")).to_contain_text("hello")
    page.locator(".title a.mono").click()
    for name in ("Processor", "Memory"):
        shown = page.locator(".tile").filter(has_text=name).locator("strong")
        expect(shown).to_have_text("not measured")


def test_a_page_stays_signed_in_and_as_it_is_when_its_token_ends(
    page: Page, provider: StrictProvider, watch: Watch
) -> None:
    sign_in(page)
    first, refresh = held(page), provider.refresh_tokens()[-1]
    page.get_by_role("button", name="Build log of version 1").click()
    wait_until(page, lambda: held(page)["token"] != first["token"], timeout_s=TOKEN_S + 5)
    assert held(page)["renewal"] == first["renewal"]
    assert refresh not in provider.refresh_tokens()
    second = held(page)
    wait_until(page, lambda: held(page)["token"] != second["token"], timeout_s=TOKEN_S + 5)
    # What somebody does on the page isn't lost by it: a call, least of all.
    expect(page.get_by_label("Build log", exact=True)).to_contain_text("building echo")
    assert not any("/oauth2/authorize" in url for url in watch.requests[-20:])


def test_signing_out_is_told_to_the_provider(page: Page, provider: StrictProvider) -> None:
    sign_in(page)
    others = provider.refresh_tokens()[:-1]
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign out there, too")).to_have_attribute(
        "href", f"{provider.issuer}/oauth2/end_session"
    )
    assert page.evaluate("() => sessionStorage.length") == 0
    wait_until(page, lambda: len(provider.refresh_tokens()) <= len(others))


def test_who_is_signed_out_by_the_provider_is_asked_to_sign_in_again(
    page: Page, provider: StrictProvider
) -> None:
    sign_in(page)
    httpx2.post(f"{provider.issuer}/users/olga/revoke-tokens", trust_env=False).raise_for_status()
    expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible(
        timeout=(TOKEN_S + 10) * 1000
    )


def test_a_refusal_is_told_in_words(page: Page) -> None:
    page.get_by_role("button", name="Sign in with Example").press("Enter")
    page.get_by_role("button", name="Deny").click()
    expect(page.get_by_role("alert")).to_contain_text("The provider didn't sign you in")
    expect(page.get_by_role("alert")).to_contain_text("access_denied")
    assert "error" not in page.url


def test_an_answer_that_this_tab_didnt_ask_for_is_no_sign_in(page: Page, console: Platform) -> None:
    tried = []
    page.on("request", lambda request: request.method == "POST" and tried.append(request.url))
    # Somebody has somebody else's browser follow a link with a code of their own.
    page.goto(f"{console.url}/console/?code=stolen&state=made-up")
    expect(page.get_by_role("alert")).to_contain_text("This tab hasn't begun to sign in")
    assert page.url == f"{console.url}/console/"
    page.get_by_role("button", name="Sign in with Example").click()
    page.get_by_role("button", name="olga").wait_for()
    page.goto(f"{console.url}/console/?code=stolen&state=made-up")
    expect(page.get_by_role("alert")).to_contain_text("for another tab")
    assert tried == []
