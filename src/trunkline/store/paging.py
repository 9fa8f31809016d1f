"""Lists in pages, by keyset: a page begins after (or ends before) an item of the one before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

_T = TypeVar("_T")

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a list is wanted. Lists are in the order their items were created.

    Attributes:
        limit: At most so many items; None for all of them.
        is_ascending: The oldest first.
        after: The id of the item the page begins after.
        before: The id of the item the page ends before.
    """

    limit: int | None = DEFAULT_LIMIT
    is_ascending: bool = False
    after: str | None = None
    before: str | None = None


#: The whole list, the newest first.
EVERYTHING = Page(limit=None)


@dataclass(frozen=True, slots=True)
class PageOf(Generic[_T]):
    """One page of a list, and whether the list goes on behind it."""

    items: Sequence[_T]
    has_more: bool
