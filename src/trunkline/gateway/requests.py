"""The head of an upgrade, and the ids a request is known by."""

import re
import secrets
import uuid
from dataclasses import dataclass

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """The head of an upgrade.

    Attributes:
        method: The method.
        path: The target's path as it was sent.
        query: The target's query as it was sent.
        headers: Names in lower case, and values.
    """

    method: str
    path: str
    query: str
    headers: list[tuple[bytes, bytes]]

    def header(self, name: bytes) -> str | None:
        """Return a header's value; several are joined as a list (RFC 9110 section 5.3)."""
        found = [value.decode("latin-1") for key, value in self.headers if key == name]
        return ", ".join(found) if found else None


def request_id_of(given: str | None) -> str:
    """Return the caller's request id if it is fit to be logged, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return uuid.uuid4().hex


def new_call_id() -> str:
    """Return the id of one call, for the agent to send on to what it calls."""
    return secrets.token_hex(16)
