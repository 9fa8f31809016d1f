"""Whose a session is, and what anybody else is told about it.

A caller who may not see a session gets one answer, whether it is there or not: 403. Only those
who had one of that id are told that it is gone, also if somebody else has taken the id since.
"""

from trunkline.protocol.errors import (
    SessionNotAccessibleError,
    SessionNotFoundError,
    TrunklineError,
)
from trunkline.protocol.ids import SessionKey
from trunkline.store.interface import SessionStore
from trunkline.store.records import SessionRecord, SessionStatus


def not_accessible(key: SessionKey) -> SessionNotAccessibleError:
    """Return the one answer to everybody whose session it isn't."""
    return SessionNotAccessibleError(
        f"you have no session {key.session_id!r} with agent {key.agent!r}: either there is none, "
        "or it is somebody else's; sessions belong to the identity that created them"
    )


def gone(key: SessionKey) -> SessionNotFoundError:
    """Return the answer to those whose session it was."""
    return SessionNotFoundError(f"session {key.session_id!r} of agent {key.agent!r} is gone")


async def find_owned(store: SessionStore, key: SessionKey, owner: str) -> SessionRecord:
    """Return the owner's session of that key.

    Raises:
        SessionNotFoundError: If the owner's session of that key was deleted, or is being deleted.
        SessionNotAccessibleError: If the owner never had one.
    """
    record = await store.find_session(key)
    if record is not None and record.owner == owner and record.status is not SessionStatus.DELETING:
        return record
    raise await _refusal(store, key, owner, record)


async def _refusal(
    store: SessionStore, key: SessionKey, owner: str, record: SessionRecord | None
) -> TrunklineError:
    # Asked in every case, so that the answers take equally long.
    had_one = await store.had_session(key, owner)
    is_going = record is not None and record.owner == owner
    return gone(key) if had_one or is_going else not_accessible(key)
