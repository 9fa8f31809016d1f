"""Takes the pictures of docs/console: ``python -m tests.support.console_pictures``."""

import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.support.chromium import babble, chromium, silence, write_wav
from tests.support.console import Watch, link
from tests.support.oidc import StrictProvider
from tests.support.platform import Platform

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "console"
AGENTS = ROOT / "tests" / "e2e" / "agents"
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1160, "height": 780}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1160, "height": 780}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 780}},
}


def take(page: Page, platform: Platform, look: str) -> None:
    def shot(name: str, shown: Page = page) -> None:
        shown.wait_for_timeout(400)
        shown.screenshot(path=PICTURES / f"{name}-{look}.png", full_page=True)

    page.goto(f"{platform.url}/console/")
    page.get_by_role("button", name="Sign in with Example").wait_for()
    shot("sign-in")
    page.goto(link(platform))
    page.get_by_role("link", name="Talk to talker").wait_for()
    page.wait_for_timeout(5000)
    shot("agents")
    page.get_by_role("link", name="Talk to talker").click()
    page.get_by_role("button", name="Talk", exact=True).click()
    said = page.get_by_role("log", name="Transcript")
    expect(said).to_contain_text("Interrupted", timeout=20_000)
    expect(said.locator(".agent")).to_have_count(2, timeout=20_000)
    page.wait_for_timeout(800)
    shot("talk")
    href = page.locator(".title a.mono").get_attribute("href")
    beside = page.context.new_page()
    beside.goto(link(platform))
    beside.get_by_role("link", name="Talk to talker").wait_for()
    beside.goto(f"{platform.url}/console/{href}")
    beside.get_by_text("it goes on").wait_for()
    beside.wait_for_timeout(9000)
    shot("session", beside)
    beside.get_by_role("navigation", name="Where this is").get_by_role(
        "link", name="talker"
    ).click()
    beside.get_by_role("row", name="1 active").first.wait_for()
    beside.wait_for_timeout(9000)
    shot("agent", beside)
    page.get_by_role("button", name="Hang up").click()
    page.locator(".title a.mono").click()
    page.get_by_label("Files to upload").set_input_files(ROOT / "README.md")
    page.get_by_role("row", name="README.md").wait_for()
    page.get_by_label("system").check()
    page.wait_for_timeout(5000)
    shot("session-over")


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="trunkline-") as name:
        folder = Path(name)
        provider = StrictProvider("trunkline", 3600, olga={}).start()
        file = folder / "providers.toml"
        file.write_text(f'[[provider]]\nissuer = "{provider.issuer}"\n')
        platform = Platform(
            folder / "state",
            TRUNKLINE_AUTH_PROVIDERS_FILE=str(file),
            TRUNKLINE_CONSOLE_ISSUER=provider.issuer,
            TRUNKLINE_CONSOLE_CLIENT_ID="console",
            TRUNKLINE_CONSOLE_PROVIDER_NAME="Example",
        ).start()
        try:
            platform.deploy(ROOT / "samples" / "echo")
            platform.deploy(AGENTS / "talker")
            spoken = [*silence(1), *babble(1.2), *silence(2.5), *babble(1), *silence(4)]
            wav = write_wav(folder / "speech.wav", spoken)
            for look, settings in LOOKS.items():
                with chromium(wav) as browser:
                    page = browser.new_context(**settings).new_page()
                    Watch().on(page)
                    take(page, platform, look)
        finally:
            platform.stop()
            provider.stop()


if __name__ == "__main__":
    main()
