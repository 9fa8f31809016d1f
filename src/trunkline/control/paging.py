"""Pages of lists, as both of the contract's kinds of client ask for them and read them."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.datastructures import QueryParams

from trunkline.protocol.errors import InvalidRequestError
from trunkline.store.paging import DEFAULT_LIMIT, MAX_LIMIT, Page, PageOf

_T = TypeVar("_T")
_DIGITS = re.compile(r"[0-9]{1,9}")
_MAX_CURSOR_CHARS = 256


def page_of(query: QueryParams) -> Page:
    """Return which page a query asks for.

    Raises:
        InvalidRequestError: If a parameter has an impossible value.
    """
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequestError("order must be asc or desc", param="order")
    return Page(
        limit=limit_of(query),
        is_ascending=order == "asc",
        after=_cursor(query, "after") or _cursor(query, "pagination_token"),
        before=_cursor(query, "before"),
    )


def limit_of(query: QueryParams) -> int:
    """Return how many items a query asks for.

    Raises:
        InvalidRequestError: If the number is impossible.
    """
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not _DIGITS.fullmatch(limit) or not 1 <= int(limit) <= MAX_LIMIT:
        raise InvalidRequestError(f"limit must be a number from 1 to {MAX_LIMIT}", param="limit")
    return int(limit)


def _cursor(query: QueryParams, name: str) -> str | None:
    value = query.get(name) or None
    if value is not None and len(value) > _MAX_CURSOR_CHARS:
        raise InvalidRequestError(f"{name} is longer than any id", param=name)
    return value


def list_body(
    page: PageOf[_T], shape: Callable[[_T], dict[str, Any]], id_of: Callable[[_T], str]
) -> dict[str, Any]:
    """Return a page as JSON.

    ``last_id`` is left out on the last page: one client takes its presence for "there is
    more". Another reads ``pagination_token`` for that.
    """
    body: dict[str, Any] = {
        "object": "list",
        "data": [shape(item) for item in page.items],
        "has_more": page.has_more,
    }
    if page.items:
        body["first_id"] = id_of(page.items[0])
        if page.has_more:
            body["last_id"] = body["pagination_token"] = id_of(page.items[-1])
    return body
