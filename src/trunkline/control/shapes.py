"""Records as the JSON objects clients read. Times are whole Unix seconds."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from trunkline.store.records import AgentRecord, SessionRecord, SessionStatus, VersionRecord

_SESSION_LIFE = dt.timedelta(days=30)


def page(items: Sequence[dict[str, Any]], id_field: str) -> dict[str, Any]:
    """Return a whole list as one page.

    ``last_id`` is left out: one client takes its presence for "there is more".
    """
    body: dict[str, Any] = {"object": "list", "data": list(items), "has_more": False}
    if items:
        body["first_id"] = items[0][id_field]
    return body


def version(record: VersionRecord) -> dict[str, Any]:
    """Return a version object."""
    body: dict[str, Any] = {
        "object": "agent.version",
        "id": f"{record.agent}:{record.version}",
        "name": record.agent,
        "version": record.version,
        "created_at": int(record.created_at.timestamp()),
        "status": record.status.value,
        "description": record.description,
        "metadata": dict(record.metadata),
        "definition": dict(record.definition),
    }
    if record.error is not None:
        body["error"] = {"code": "CodeError", "message": record.error}
    if record.launch is not None:
        body["notes"] = list(record.launch.get("notes", ()))
    return body


def agent(record: AgentRecord, latest: VersionRecord, sessions: int) -> dict[str, Any]:
    """Return an agent object."""
    protocols: dict[str, Any] = {name: {} for name in sorted(latest.protocols)}
    return {
        "object": "agent",
        "id": record.name,
        "name": record.name,
        "state": "enabled",
        "created_at": int(record.created_at.timestamp()),
        "versions": {"latest": version(latest)},
        "running_sessions": sessions,
        "agent_endpoint": {
            "version_selector": {
                "version_selection_rules": [
                    {"type": "FixedRatio", "agent_version": "@latest", "traffic_percentage": 100}
                ]
            },
            "protocol_configuration": protocols,
            "authorization_schemes": [{"type": "Entra", "isolation_key_source": {"kind": "Entra"}}],
        },
    }


def session(record: SessionRecord, *, is_running: bool) -> dict[str, Any]:
    """Return a session object."""
    status = record.status
    if is_running:
        status = SessionStatus.ACTIVE
    return {
        "agent_session_id": record.key.session_id,
        "version_indicator": {"type": "version_ref", "agent_version": record.version},
        "status": status.value,
        "created_at": int(record.created_at.timestamp()),
        "last_accessed_at": int(record.last_accessed_at.timestamp()),
        "expires_at": int((record.last_accessed_at + _SESSION_LIFE).timestamp()),
    }
