"""One page of a list, whichever table it is of."""

from collections.abc import Callable
from typing import Any, TypeVar

from trunkline.protocol.errors import InvalidRequestError
from trunkline.store.paging import Page, PageOf
from trunkline.store.sql.engine import Db, Row

_T = TypeVar("_T")
_NO_LIMIT = 2**62


def read_page(
    db: Db, name: str, page: Page, record: Callable[[Row], _T], *, find: str, id_as: str,
    **values: Any,
) -> PageOf[_T]:  # fmt: skip
    """Return one page.

    Args:
        db: The database.
        name: The list's statement.
        page: Which part of the list.
        record: Makes a record of a row.
        find: The statement that finds one item.
        id_as: That statement's parameter for the item's id.
        values: The list's other parameters; those that ``find`` has go to it, too.

    Raises:
        InvalidRequestError: If the page begins or ends at an item that isn't there. An empty
            page would look like the end of the list.
    """
    scope = {key: values[key] for key in ("project", "agent", "conversation_id") if key in values}
    for cursor, item in (("after", page.after), ("before", page.before)):
        if item is not None and not (_is_text(item) and db.rows(find, **scope, **{id_as: item})):
            raise InvalidRequestError(
                f"{cursor} names an item that isn't there (any more); list from the start again",
                param=cursor,
            )
    # A page that ends before an item is the one next to it: it is read backwards.
    is_backward = page.before is not None and page.after is None
    order = "asc" if page.is_ascending is not is_backward else "desc"
    # The statement's signs follow its order: read backwards, `before` is what comes after.
    after, before = (page.before, None) if is_backward else (page.after, page.before)
    limit = _NO_LIMIT if page.limit is None else page.limit + 1
    rows = db.rows(f"{name}_{order}", after=after, before=before, limit=limit, **values)
    has_more = page.limit is not None and len(rows) > page.limit
    items = [record(row) for row in (rows[: page.limit] if has_more else rows)]
    return PageOf(items[::-1] if is_backward else items, has_more)


def _is_text(value: str) -> bool:
    # NUL and half of a surrogate pair can't be stored, so they can't be found either.
    return "\0" not in value and value.encode("utf-8", "replace").decode() == value
