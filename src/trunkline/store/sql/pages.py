"""One page of a list, whichever table it is of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from trunkline.protocol.errors import InvalidRequestError
from trunkline.store.paging import Page, PageOf
from trunkline.store.sql.engine import Db, Row, first

_T = TypeVar("_T")
_NO_LIMIT = 2**62
_SCOPE = ("project", "agent", "conversation_id")
#: Below and above every key: times are RFC 3339, names and ids are ASCII.
_LOWEST: tuple[Any, ...] = ("", "")
_HIGHEST: tuple[Any, ...] = ("~", "~")
_FIRST: tuple[Any, ...] = (-1,)
_LAST: tuple[Any, ...] = (2**62,)


@dataclass(frozen=True, slots=True)
class Listing:
    """One kind of list.

    Attributes:
        name: Its statement.
        find: The statement that finds one of its items.
        id_as: That statement's parameter for the item's id.
        by: The columns it is in the order of: a time and a name, or a number.
    """

    name: str
    find: str
    id_as: str
    by: tuple[str, ...]


def read_page(
    db: Db, listing: Listing, page: Page, record: Callable[[Row], _T], **values: Any
) -> PageOf[_T]:
    """Return one page.

    Args:
        db: The database.
        listing: Which list.
        page: Which part of it.
        record: Makes a record of a row.
        values: The list's parameters; those that name what it is in go to ``find``, too.

    Raises:
        InvalidRequestError: If the page begins or ends at an item that isn't there. An empty
            page would look like the end of the list.
    """
    scope = {key: values[key] for key in _SCOPE if key in values}
    keys: dict[str, tuple[Any, ...]] = {}
    for cursor, item in (("after", page.after), ("before", page.before)):
        if item is None:
            continue
        row = (
            first(db.rows(listing.find, **scope, **{listing.id_as: item}))
            if _is_text(item)
            else None
        )
        if row is None:
            raise InvalidRequestError(
                f"{cursor} names an item that isn't there (any more); list from the start again",
                param=cursor,
            )
        keys[cursor] = tuple(row[column] for column in listing.by)
    # A page that ends before an item is the one next to it: it is read backwards.
    is_backward = page.before is not None and page.after is None
    is_ascending = page.is_ascending is not is_backward
    # The statement's signs follow its order: read backwards, `before` is what comes after.
    after, before = (keys.get("before"), None) if is_backward else (
        keys.get("after"), keys.get("before"))  # fmt: skip
    low, high = (_LOWEST, _HIGHEST) if len(listing.by) > 1 else (_FIRST, _LAST)
    if not is_ascending:
        low, high = high, low
    limits = {"after": after or low, "before": before or high}
    bounds = {
        f"{side}_{part}": value
        for side, key in limits.items()
        for part, value in zip(("at", "id"), key, strict=False)
    }
    limit = _NO_LIMIT if page.limit is None else page.limit + 1
    order = "asc" if is_ascending else "desc"
    rows = db.rows(f"{listing.name}_{order}", limit=limit, **bounds, **values)
    has_more = page.limit is not None and len(rows) > page.limit
    items = [record(row) for row in (rows[: page.limit] if has_more else rows)]
    return PageOf(items[::-1] if is_backward else items, has_more)


def _is_text(value: str) -> bool:
    # NUL and half of a surrogate pair can't be stored, so they can't be found either.
    return "\0" not in value and value.encode("utf-8", "replace").decode() == value
