"""Answers to requests that failed, and who is to blame for it."""

from enum import StrEnum
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from trunkline.protocol import headers

#: An exception with this attribute set to True was the platform's fault, not the agent's.
PLATFORM_ERROR_TAG: Final = "Azure.AI.AgentServer.PlatformError"
MAX_DETAIL_CHARS: Final = 2048
_CUT_MARK: Final = "...[truncated]"


class ErrorSource(StrEnum):
    """Whose fault an error is, as told in a header."""

    UPSTREAM = "upstream"
    PLATFORM = "platform"


def error_response(
    status: int,
    code: str,
    message: str,
    *,
    source: ErrorSource = ErrorSource.UPSTREAM,
    detail: str | None = None,
) -> JSONResponse:
    """Return the JSON answer every failed request gets."""
    extra = {headers.ERROR_SOURCE: source.value}
    if detail is not None:
        extra[headers.ERROR_DETAIL] = header_text(detail)
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers=extra)


def not_found(message: str) -> JSONResponse:
    """Return the answer for something that isn't there."""
    return error_response(404, "not_found", message)


def not_implemented() -> JSONResponse:
    """Return the answer for what the agent doesn't do."""
    return error_response(501, "not_implemented", "The agent does not implement this")


def shutting_down() -> JSONResponse:
    """Return the answer to a request that came too late."""
    return error_response(503, "shutting_down", "The agent is shutting down")


def failure_response(error: Exception) -> Response:
    """Return the answer when a handler raised.

    The exception's own text stays out of the answer: it was written for the agent's author,
    and may hold what a caller must not see. Only errors tagged as the platform's carry it,
    in a header that the platform takes off.
    """
    if isinstance(error, NotImplementedError):
        return not_implemented()
    if isinstance(error, HTTPException):
        return _http_exception(error)
    if getattr(error, PLATFORM_ERROR_TAG, None) is True:
        return error_response(
            500,
            "internal_error",
            "Internal server error",
            source=ErrorSource.PLATFORM,
            detail=f"{type(error).__name__}: {error}",
        )
    return error_response(500, "internal_error", "Internal server error")


def header_text(text: str) -> str:
    """Return ``text`` as one line of printable ASCII that fits in a header."""
    line = " ".join(text.split())
    safe = "".join(
        char if " " <= char <= "~" else char.encode("ascii", "backslashreplace").decode()
        for char in line
        if char >= " "
    )
    if len(safe) <= MAX_DETAIL_CHARS:
        return safe
    return safe[: MAX_DETAIL_CHARS - len(_CUT_MARK)] + _CUT_MARK


def _http_exception(error: HTTPException) -> Response:
    if error.status_code < 400 or error.status_code in (204, 304):
        return Response(status_code=error.status_code, headers=error.headers)
    try:
        code = HTTPStatus(error.status_code).name.lower()
    except ValueError:
        code = "error"
    response = error_response(error.status_code, code, str(error.detail))
    response.headers.update(error.headers or {})
    return response
