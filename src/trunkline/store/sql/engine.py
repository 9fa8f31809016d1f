"""What a SQL database has to do for the store: run functions as transactions."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")

Row = Mapping[str, Any]


class Db(Protocol):
    """The database inside a transaction. For the thread that runs the transaction only."""

    def rows(self, name: str, **values: Any) -> Sequence[Row]:
        """Run the statement of that name; return its rows, none if it has none to give."""

    def insert(self, name: str, columns: Sequence[str], many: Sequence[Sequence[Any]]) -> None:
        """Run the insertion of that name for each of many rows.

        Args:
            name: The statement's name. Its values are the columns, as they are.
            columns: Their names.
            many: Their values, for each row: texts and numbers, or None.
        """


class Engine(Protocol):
    """One database."""

    async def read(self, work: Callable[[Db], _T]) -> _T:
        """Run ``work``, which changes nothing.

        Each of its statements sees what was committed before it, so two of them may see two
        states.
        """

    async def look(self, at: Hashable, work: Callable[[Db], _T]) -> _T:
        """Run ``work`` as :meth:`read`; it looks up a few rows by their keys.

        It is for what every call asks. It sees what was committed before, by whomever, and may
        return what it returned before if nothing was: nobody may change that.

        Args:
            at: Names what is looked up, its keys included.
            work: Looks it up.
        """

    def look_now(self, at: Hashable, work: Callable[[Db], _T]) -> _T | None:
        """Return what :meth:`look` would, if that takes no waiting; else None."""

    async def write(self, work: Callable[[Db], _T]) -> _T:
        """Run ``work`` as if nobody else were there: all of it, or, if it raises, nothing.

        It may be run again when another process got in its way. Cancelling the call doesn't
        stop it half-way.
        """

    async def step(self, name: str, **values: Any) -> Sequence[Row]:
        """Run the statement of that name, which changes no more than one row; return its rows.

        It is for what happens often. It sees the row as it is when it changes it, and no
        ``write`` runs at the same time, but other steps do.
        """

    async def steps(self, name: str, many: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement that may be a ``step`` for each of several rows, in one go.

        Args:
            name: The statement's name.
            many: Its values for each row, in an order that everybody keeps to.
        """

    async def sign(self, name: str, **values: Any) -> Sequence[Row]:
        """Run the statement of that name, which changes one row and must not be late.

        It waits neither for a ``write`` nor for those who have asked before, so nothing may rely
        on its row but this statement's own kind.
        """

    async def aclose(self) -> None:
        """Close the database. Twice is fine."""


def first(rows: Sequence[Row]) -> Row | None:
    """Return the only row, or None."""
    return rows[0] if rows else None
