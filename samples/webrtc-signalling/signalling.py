"""The words of the WebSocket: one JSON object a message, and one answer to each. No media.

Up: ``{"action": "ice_config" | "offer" | "ice_candidate" | "disconnect"}`` with their fields.
Down: ``{"type": "ice_config" | "answer" | "ok" | "closed" | "error"}``, in the order asked.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

MAX_MESSAGE_CHARS = 64 * 1024
"""An offer with all its candidates has a few thousand."""


class BadSignalError(Exception):
    """A message that can't be used. It is answered with an ``error``; the connection goes on."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Peer(Protocol):
    """The media's end of one call."""

    async def answer(self, sdp: str) -> str:
        """Return the answer to an offer."""

    async def add_candidate(self, candidate: dict[str, Any]) -> None:
        """Take one of the other side's candidates."""

    async def aclose(self) -> None:
        """End the call. Twice is fine."""


@dataclass(slots=True)
class Signalling:
    """One connection's side of the conversation about a call.

    Attributes:
        ice_servers: What the other side is told to use; empty unless somebody configured some.
        new_peer: Makes the media's end of a call.
    """

    ice_servers: list[dict[str, Any]]
    new_peer: Callable[[], Awaitable[Peer]]
    _peer: Peer | None = None

    async def reply(self, message: str) -> str:
        """Return the answer to one message."""
        try:
            return _said(**await self._act(_parse(message)))
        except BadSignalError as error:
            return _said(type="error", code=error.code, message=str(error))

    async def aclose(self) -> None:
        """The connection is over, and so is the call. Twice is fine."""
        peer, self._peer = self._peer, None
        if peer is not None:
            await peer.aclose()

    async def _act(self, asked: dict[str, Any]) -> dict[str, Any]:
        match asked.get("action"):
            case "ice_config":
                return {"type": "ice_config", "iceServers": self.ice_servers}
            case "offer":
                # A second offer is a new call: the page was reloaded, or its network changed.
                await self.aclose()
                self._peer = await self.new_peer()
                sdp = await self._peer.answer(_text(asked, "sdp"))
                return {"type": "answer", "sdp": sdp}
            case "ice_candidate":
                await self._known_peer().add_candidate(_candidate(asked))
                return {"type": "ok"}
            case "disconnect":
                await self.aclose()
                return {"type": "closed"}
            case action:
                raise BadSignalError(
                    "unknown_action",
                    f"{action!r} isn't ice_config, offer, ice_candidate or disconnect",
                )

    def _known_peer(self) -> Peer:
        if self._peer is None:
            raise BadSignalError("no_call", "a candidate came before an offer")
        return self._peer


def _parse(message: str) -> dict[str, Any]:
    if len(message) > MAX_MESSAGE_CHARS:
        raise BadSignalError("too_long", f"a message may have {MAX_MESSAGE_CHARS} characters")
    try:
        asked = json.loads(message)
    except (ValueError, RecursionError):
        raise BadSignalError("invalid_json", "a message is one JSON object") from None
    if not isinstance(asked, dict):
        raise BadSignalError("invalid_json", "a message is one JSON object")
    return asked


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str) or not value:
        raise BadSignalError("invalid_field", f"{name} is a text that is not empty")
    return value


def _candidate(asked: dict[str, Any]) -> dict[str, Any]:
    candidate = asked.get("candidate")
    if not isinstance(candidate, dict) or not isinstance(candidate.get("candidate"), str):
        raise BadSignalError("invalid_field", "candidate is what RTCIceCandidate.toJSON() makes")
    return candidate


def _said(**fields: Any) -> str:
    return json.dumps(fields)
