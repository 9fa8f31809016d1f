"""Reads what requests bring: bodies within bounds, JSON objects, truth values."""

import json
from typing import Any, NoReturn

from starlette.requests import Request
from starlette.types import Message

from trunkline.protocol.errors import InvalidRequestError, TooLargeError

#: The most a JSON body may have.
MAX_JSON_BYTES = 4 * 1024 * 1024


def limited(request: Request, max_bytes: int) -> Request:
    """Return the request with a body that can't be read past ``max_bytes``.

    Raises:
        TooLargeError: At once if its length is announced, else while it is read.
    """
    error = TooLargeError(f"the request's body is over {max_bytes} bytes")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise error
    seen = 0

    async def receive() -> Message:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        if seen > max_bytes:
            raise error
        return message

    return Request(request.scope, receive)


async def json_object(request: Request, *, may_be_empty: bool = False) -> dict[str, Any]:
    """Return the JSON object a request's body is.

    Args:
        request: The request.
        may_be_empty: Whether no body at all stands for an empty object.

    Raises:
        InvalidRequestError: If it isn't one.
        TooLargeError: If it is over :data:`MAX_JSON_BYTES`.
    """
    body = await limited(request, MAX_JSON_BYTES).body()
    if may_be_empty and not body.strip():
        return {}
    return parse_json_object(body, "the body")


def parse_json_object(text: bytes | str, what: str) -> dict[str, Any]:
    """Return the JSON object a text is.

    Args:
        text: The text.
        what: What to call it in an error.

    Raises:
        InvalidRequestError: If it isn't one.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant)
        # JSON can spell half of a surrogate pair, which is no character and can't be stored.
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{what} isn't UTF-8") from None
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{what} has a text with half of a surrogate pair") from None
    except json.JSONDecodeError as exc:
        raise InvalidRequestError(
            f"{what} isn't JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}"
        ) from None
    except (RecursionError, ValueError) as exc:
        raise InvalidRequestError(f"{what} isn't JSON that can be read: {exc}") from None
    if not isinstance(value, dict):
        raise InvalidRequestError(f"{what} must be a JSON object, and is {_kind_of(value)}")
    return value


def flag(text: str | None, name: str, *, default: bool) -> bool:
    """Return what a truth value in a query says.

    Raises:
        InvalidRequestError: If it is neither ``true`` nor ``false``.
    """
    if text is None:
        return default
    if text.lower() not in ("true", "false"):
        raise InvalidRequestError(f"{name} must be true or false", param=name)
    return text.lower() == "true"


def _kind_of(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
