"""Whose a session is, and what anybody else is told about it.

A caller who may not see a session gets one answer, whether it is there or not: 403. Only those
who had one of that id are told that it is gone, also if somebody else has taken the id since.
"""

from trunkline.auth.caller import Caller
from trunkline.protocol.errors import (
    SessionNotAccessibleError,
    SessionNotFoundError,
    TrunklineError,
)
from trunkline.protocol.ids import AgentName, ProjectName, SessionKey
from trunkline.store.interface import AgentStore, SessionStore
from trunkline.store.records import SessionRecord, SessionStatus


def not_accessible(key: SessionKey) -> SessionNotAccessibleError:
    """Return the one answer to everybody whose session it isn't."""
    return SessionNotAccessibleError(
        f"you have no session {key.session_id!r} with agent {key.agent!r}: either there is none, "
        "or it is somebody else's; sessions belong to the identity that created them"
    )


def gone(key: SessionKey) -> SessionNotFoundError:
    """Return the answer to those whose session it was, and to those who may see every one."""
    return SessionNotFoundError(f"agent {key.agent!r} has no session {key.session_id!r} any more")


async def owner_with(
    store: AgentStore, project: ProjectName, agent: AgentName, caller: Caller
) -> str:
    """Return whom a caller's sessions with an agent belong to.

    Raises:
        InvalidRequestError: If they belong to users that callers name, and none is named.
    """
    record = await store.find_agent(project, agent)
    return caller.owner_of(record.endpoint if record is not None else {})


async def find_owned(store: SessionStore, key: SessionKey, owner: str | None) -> SessionRecord:
    """Return the owner's session of that key; with None, whosever it is.

    Raises:
        SessionNotFoundError: If the owner's session of that key was deleted, or is being deleted.
        SessionNotAccessibleError: If the owner never had one.
    """
    record = await store.find_session(key)
    is_live = record is not None and record.status is not SessionStatus.DELETING
    if record is not None and is_live and owner in (None, record.owner):
        return record
    raise await _refusal(store, key, owner, record)


async def _refusal(
    store: SessionStore, key: SessionKey, owner: str | None, record: SessionRecord | None
) -> TrunklineError:
    if owner is None:
        return gone(key)
    # Asked in every case, so that the answers take equally long.
    had_one = await store.had_session(key, owner)
    is_going = record is not None and record.owner == owner
    return gone(key) if had_one or is_going else not_accessible(key)
