"""What went wrong in PostgreSQL, in the platform's own errors."""

from typing import Final

import psycopg
from psycopg import errors

from trunkline.protocol.errors import InvalidRequestError, UnavailableError

#: Another transaction was in the way; the same again may succeed (SQLSTATE class 40).
CONTENTION: Final = (errors.SerializationFailure, errors.DeadlockDetected)
#: The server does its work too slowly, or has too much of it.
_BUSY: Final = (
    *CONTENTION,
    errors.QueryCanceled,
    errors.LockNotAvailable,
    errors.IdleInTransactionSessionTimeout,
    errors.InsufficientResources,
)


def explained(error: psycopg.Error) -> Exception:
    """Return what the caller is told; an error that nobody foresaw is returned as it is.

    The server's own words are for the log: they name hosts and users.
    """
    if isinstance(error, _BUSY):
        return UnavailableError("the store is busy; try again")
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return UnavailableError("the store takes no changes at the moment; try again")
    if isinstance(error, psycopg.OperationalError):
        return UnavailableError("the store doesn't answer; try again")
    if isinstance(error, psycopg.DataError):
        return InvalidRequestError("a text has the character U+0000, which can't be kept")
    return error
