"""The files a browser gets, read once, and the headers that say what they may do."""

import hashlib
import importlib.resources
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Final

INDEX: Final = "index.html"
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}
#: Nothing from anywhere else, nothing inline, no markup made of text, in nobody's frame.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "content-security-policy": _POLICY,
        "permissions-policy": "microphone=(self), camera=(), geolocation=(), display-capture=()",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        # The files change with the platform's version, so a browser asks each time.
        "cache-control": "no-cache",
    }
)


@dataclass(frozen=True, slots=True)
class Page:
    """One file."""

    body: bytes
    media_type: str
    etag: str


def load_pages() -> dict[str, Page]:
    """Read all files; return them by the path below ``/console/``."""
    return dict(_walk(importlib.resources.files("trunkline.console") / "static", ""))


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Page]]:
    for entry in folder.iterdir():
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, f"{path}/")
            continue
        media_type = _TYPES.get(entry.name.rpartition(".")[2])
        # The client's declarations of types and its Node part aren't for browsers.
        if media_type is None or path.startswith("client/node/"):
            continue
        body = entry.read_bytes()
        yield path, Page(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:24]}"')
