"""What can go wrong between the client and a platform.

::

    TrunklineError
    ├── UnreachableError   nothing answers, or the connection broke
    ├── RefusedError       an answer of 400 or above, with the platform's own code
    └── BadAnswerError     an answer this client can't read
"""

import json
from collections.abc import Mapping
from typing import Any

from trunkline.protocol import headers
from trunkline.protocol.errors import TrunklineError

_MAX_SHOWN_CHARS = 300


class UnreachableError(TrunklineError):
    """Nothing answers at the endpoint, or the connection broke before the answer was whole.

    Attributes:
        endpoint: The address that was tried.
        is_connected: Whether a connection had been made, so that the platform is there.
    """

    code = "unreachable"
    status = 503

    def __init__(self, endpoint: str, reason: str = "", *, is_connected: bool = False) -> None:
        self.endpoint = endpoint
        self.is_connected = is_connected
        said = f" ({reason})" if reason else ""
        super().__init__(
            f"the connection to {endpoint} broke{said}"
            if is_connected
            else f"nothing answers at {endpoint}{said}"
        )


class BadAnswerError(TrunklineError):
    """The answer isn't what a platform says; something else may be listening there."""

    code = "bad_answer"
    status = 502


class RefusedError(TrunklineError):
    """The platform said no, before or instead of doing anything.

    Attributes:
        status: The HTTP status.
        agent: The agent it was about, if it was about one.
        code: The platform's stable code for the reason, such as ``agent_not_found``.
        session_id: The session it was about, if the answer named one.
        request_id: What to look for in the platform's log, if the answer named it.
        retry_after_s: When to try again, if the answer said so.
    """

    def __init__(self, status: int, code: str, message: str, header: Mapping[str, str]) -> None:
        super().__init__(message)
        # The root declares these per class; here they are the other side's to choose.
        self.status = status  # type: ignore[misc]
        self.code = code  # type: ignore[misc]
        self.agent: str | None = None
        self.session_id = header.get(headers.SESSION_ID)
        self.request_id = header.get(headers.REQUEST_ID)
        after = header.get("retry-after", "")
        self.retry_after_s = float(after) if after.isdecimal() else None

    @classmethod
    def from_answer(cls, status: int, header: Mapping[str, str], body: bytes) -> "RefusedError":
        """Read the error envelope, or make do with what is there instead.

        Args:
            status: The HTTP status.
            header: The answer's headers, looked up in lower case.
            body: As much of the answer's body as was read.
        """
        error = _error_of(body)
        code = str(error.get("code") or f"http_{status}")
        message = str(error.get("message") or "").strip()
        if not message:
            text = " ".join(body.decode(errors="replace").split())[:_MAX_SHOWN_CHARS]
            message = f"the answer was {status}" + (f": {text}" if text else "")
            if text.startswith("<"):
                message = f"the answer was {status} with a page: it isn't a trunkline that answers"
        return cls(status, code, message, header)


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else {}
