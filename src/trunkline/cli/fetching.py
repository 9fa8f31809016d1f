"""Fetching a manifest that is named by its address."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from trunkline.manifest.template import MANIFEST_FILES
from trunkline.protocol.errors import InvalidRequestError

TIMEOUT_S = 30.0
MAX_BYTES = 1024 * 1024
_MAX_REDIRECTS = 5
_HTML = "text/html"


class FetchError(InvalidRequestError):
    """What an address names can't be had, or isn't a manifest."""


def is_web_address(text: str) -> bool:
    """Tell whether it is an address, and not a path."""
    return text.lower().startswith(("http://", "https://"))


@contextmanager
def fetched_manifest(url: str) -> Iterator[Path]:
    """Give the file an address names, in a folder of its own, until the block ends.

    Raises:
        FetchError: If it can't be had, is too large, or is a page for people.
    """
    content = _fetch(url)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MANIFEST_FILES[0]
        path.write_bytes(content)
        yield path


def _fetch(url: str) -> bytes:
    # Its text may hold a password or a token.
    shown = urlsplit(url)._replace(query="", fragment="").geturl().rpartition("@")[2]
    content = b""
    try:
        with (
            httpx2.Client(
                follow_redirects=True, max_redirects=_MAX_REDIRECTS, timeout=TIMEOUT_S
            ) as client,
            client.stream("GET", url) as answer,
        ):
            if answer.status_code != httpx2.codes.OK:
                raise FetchError(f"{shown} can't be fetched: it answers {answer.status_code}")
            if answer.headers.get("content-type", "").startswith(_HTML):
                raise FetchError(
                    f"{shown} is a page for people: take the address of the file itself "
                    "(on GitHub: Raw)"
                )
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > MAX_BYTES:
                    raise FetchError(f"{shown} is larger than 1 MiB, which no manifest is")
    except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
        raise FetchError(f"{shown} can't be fetched: {exc}") from exc
    return content
