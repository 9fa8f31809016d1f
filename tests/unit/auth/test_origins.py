"""Which pages may connect."""

import pytest

from trunkline.auth.origins import Origins
from trunkline.protocol.errors import OriginNotAllowedError

HOST = "agents.example.com"
DEFAULT = Origins(["same-origin", "loopback"])


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, HOST),
        ("https://agents.example.com", HOST),
        ("https://agents.example.com", f"{HOST}:443"),
        ("https://agents.example.com:443", "Agents.Example.com"),
        ("http://agents.example.com:8080", f"{HOST}:8080"),
        ("http://localhost:3000", HOST),
        ("http://127.0.0.1", HOST),
        ("http://127.8.9.1:5", HOST),
        ("https://[::1]:3000", HOST),
    ],
)
def test_who_may(origin: str | None, host: str) -> None:
    DEFAULT.check(origin, host)


@pytest.mark.parametrize(
    "origin",
    [
        "null", "", "*", "https://evil.example", "https://agents.example.com.evil.example",
        "https://evil.example/agents.example.com", "https://agents.example.com@evil.example",
        "https://evilagents.example.com", "https://agents.example.com:8443",
        "http://localhost.evil.example", "http://127.0.0.1.evil.example", "http://127.1",
        "http://2130706433", "http://0x7f.1", "file://", "file:///etc", "data:text/html",
        "chrome-extension://abc", "https://AGENTS.example.com", "https://agents.example.com/",
        "https://agents.example.com, https://evil.example", " https://agents.example.com",
        "https://agents.example.com\n", "ws://agents.example.com", "https://[::1", "https://",
        "http://[::ffff:8.8.8.8]", "https://agents.example.com:",
    ],
)  # fmt: skip
def test_who_may_not(origin: str) -> None:
    with pytest.raises(OriginNotAllowedError) as caught:
        DEFAULT.check(origin, HOST)
    assert caught.value.status == 403


@pytest.mark.parametrize("host", [None, "", "evil.example", "agents.example.com/x", "a, b"])
def test_the_own_origin_is_that_of_the_host(host: str | None) -> None:
    with pytest.raises(OriginNotAllowedError):
        DEFAULT.check("https://agents.example.com", host)


def test_others_are_named_in_full() -> None:
    origins = Origins(["https://app.example.com", "http://app.example.com:8080"])
    origins.check("https://app.example.com:443", HOST)
    origins.check("http://app.example.com:8080", HOST)
    for origin in ("http://app.example.com", "https://x.app.example.com", "http://localhost",
                   f"https://{HOST}"):  # fmt: skip
        with pytest.raises(OriginNotAllowedError):
            origins.check(origin, HOST)


@pytest.mark.parametrize("word", ["*", "https://*.example.com", "app.example.com", "null", ""])
def test_a_setting_that_names_no_origin(word: str) -> None:
    with pytest.raises(ValueError, match="isn't an origin"):
        Origins([word])
