"""The ``responses`` protocol as OpenAI's clients read and write it. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_MESSAGES = 50
MAX_CHARS = 8_000


class BadRequestError(Exception):
    """A request that can't be answered. ``str`` says why, ``code`` is for programs."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param

    def as_body(self) -> dict[str, Any]:
        """Return the body of the refusal."""
        return {
            "error": {
                "code": self.code,
                "message": str(self),
                "param": self.param,
                "type": "invalid_request_error",
            }
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for."""

    said: list[tuple[str, str]]
    """Roles and texts; the last is the user's."""
    conversation: str | None
    previous_response_id: str | None
    stream: bool
    echo: dict[str, Any]
    """What the response repeats of the request."""


def read_request(body: bytes) -> Asked:
    """Parse the body of ``POST /responses``.

    Raises:
        BadRequestError: If it can't be used.
    """
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise BadRequestError("invalid_json", "the body must be a JSON object")
    conversation = given.get("conversation")
    if isinstance(conversation, Mapping):
        conversation = conversation.get("id")
    return Asked(
        said=_said(given.get("input")),
        conversation=_text(conversation, "conversation"),
        previous_response_id=_text(given.get("previous_response_id"), "previous_response_id"),
        stream=given.get("stream") is True,
        echo={
            "model": given.get("model") or "rules",
            "metadata": given.get("metadata") or {},
            "previous_response_id": given.get("previous_response_id"),
            "conversation": {"id": conversation} if conversation else None,
        },
    )


def _text(value: object, param: str) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    raise BadRequestError("invalid_value", f"{param} must be a string", param)


def _said(given: object) -> list[tuple[str, str]]:
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_MESSAGES:
        raise BadRequestError(
            "invalid_value", f"input must be a text, or 1 to {MAX_MESSAGES} messages", "input"
        )
    said = [_message(item) for item in items]
    if said[-1][0] != "user":
        raise BadRequestError("invalid_value", "the last of input must be the user's", "input")
    return said


def _message(item: object) -> tuple[str, str]:
    if not isinstance(item, dict) or item.get("type", "message") != "message":
        raise BadRequestError("unsupported_value", "input may only have messages", "input")
    role, content = item.get("role"), item.get("content")
    if role not in ("user", "assistant", "system", "developer"):
        raise BadRequestError("invalid_value", f"a message can't have the role {role!r}", "input")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        if not all(isinstance(part, str) for part in parts):
            raise BadRequestError("unsupported_value", "content may only have text", "input")
        content = "\n".join(map(str, parts))
    if not isinstance(content, str) or not content.strip() or len(content) > MAX_CHARS:
        raise BadRequestError(
            "invalid_value", f"a message has 1 to {MAX_CHARS} characters of content", "input"
        )
    return role, content.strip()


@dataclass(slots=True)
class ResponseShape:
    """One response, whole or as the events of a stream."""

    response_id: str
    created_at: int
    echo: dict[str, Any]
    _sequence: int = field(default=0, init=False)

    def document(
        self, status: str, text: str | None = None, failure: str | None = None
    ) -> dict[str, Any]:
        """Return the response as it is now."""
        return {
            "id": self.response_id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "error": {"code": "server_error", "message": failure} if failure else None,
            "incomplete_details": None,
            "instructions": None,
            "output": [] if text is None else [self._item("completed", text)],
            "parallel_tool_calls": False,
            "tool_choice": "auto",
            "tools": [],
            **self.echo,
        }

    def begin(self) -> list[bytes]:
        """Return the events before the first word."""
        return [
            self._event("response.created", response=self.document("in_progress")),
            self._event("response.in_progress", response=self.document("in_progress")),
            self._event(
                "response.output_item.added", output_index=0, item=self._item("in_progress", None)
            ),
            self._event("response.content_part.added", **self._place(), part=_part("")),
        ]

    def piece(self, text: str) -> bytes:
        """Return the event of the next words."""
        return self._event(
            "response.output_text.delta", **self._place(), delta=text, logprobs=[]
        )  # fmt: skip

    def end(self, text: str) -> list[bytes]:
        """Return the events after the last word."""
        place = self._place()
        return [
            self._event("response.output_text.done", **place, text=text, logprobs=[]),
            self._event("response.content_part.done", **place, part=_part(text)),
            self._event(
                "response.output_item.done", output_index=0, item=self._item("completed", text)
            ),
            self._event("response.completed", response=self.document("completed", text)),
        ]

    def fail(self, message: str) -> bytes:
        """Return the event that says that there will be no answer."""
        return self._event("response.failed", response=self.document("failed", failure=message))

    def _item(self, status: str, text: str | None) -> dict[str, Any]:
        return {
            "id": self._item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [] if text is None else [_part(text)],
        }

    @property
    def _item_id(self) -> str:
        return self.response_id.replace("resp_", "msg_", 1)

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item_id, "output_index": 0, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> bytes:
        event = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return f"event: {kind}\ndata: {json.dumps(event)}\n\n".encode()


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
