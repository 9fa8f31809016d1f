"""Which web pages may have a browser connect here. Pure.

A browser sends the origin of the page that opens a WebSocket, and sends it whatever page that is:
nothing else keeps a page from connecting to what only its reader should reach (CWE-1385). What
isn't a browser sends none, and proves who it is by its token alone.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from trunkline.protocol.errors import OriginNotAllowedError

SAME_ORIGIN: Final = "same-origin"
LOOPBACK: Final = "loopback"
_ORIGIN: Final = re.compile(
    r"(https?)://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"
)
_PORTS: Final = {"http": "80", "https": "443"}


class Origins:
    """The origins that may connect."""

    def __init__(self, allowed: Iterable[str]) -> None:
        """Take the origins.

        Args:
            allowed: Origins in full; ``same-origin`` for the platform's own, ``loopback`` for
                pages of this machine.

        Raises:
            ValueError: If one isn't an origin. There are no wildcards.
        """
        words = set(allowed)
        self._takes_own = SAME_ORIGIN in words
        self._takes_loopback = LOOPBACK in words
        self._allowed = {_parse(word) for word in words - {SAME_ORIGIN, LOOPBACK}}

    def check(self, origin: str | None, host: str | None) -> None:
        """Refuse a page that may not connect.

        Args:
            origin: The ``Origin`` header.
            host: The ``Host`` header.

        Raises:
            OriginNotAllowedError: If it is of an origin that may not.
        """
        if origin is None:
            return
        try:
            scheme, name, port = _parse(origin)
        except ValueError:
            # Also "null": sandboxed frames, files and redirected requests have that origin.
            raise _refusal() from None
        if (scheme, name, port) in self._allowed:
            return
        if self._takes_loopback and _is_loopback(name):
            return
        # Whoever ends TLS in front of the platform leaves the host as it was.
        if self._takes_own and _place(host, scheme) == (name, port):
            return
        raise _refusal()


def _refusal() -> OriginNotAllowedError:
    return OriginNotAllowedError(
        "pages of this origin may not connect here; TRUNKLINE_GATEWAY_ALLOWED_ORIGINS names those "
        "that may"
    )


def _parse(origin: str) -> tuple[str, str, str]:
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        raise ValueError(f"{origin[:64]!r} isn't an origin, such as https://app.example.com")
    return match[1], match[2], match[3] or _PORTS[match[1]]


def _place(host: str | None, scheme: str) -> tuple[str, str] | None:
    try:
        _, name, port = _parse(f"{scheme}://{(host or '').lower()}")
    except ValueError:
        return None
    return name, port


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
