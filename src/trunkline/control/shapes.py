"""Records as the JSON objects clients read. Times are whole Unix seconds."""

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from trunkline.runtimes.interface import StartStatus
from trunkline.sessions.agent_secrets import shown
from trunkline.sessions.live import AgentNow, SessionUse
from trunkline.sessions.ready import ReadyStatus
from trunkline.sessions.selection import rules_of
from trunkline.store.records import AgentRecord, SessionRecord, VersionRecord

_ENTRA: dict[str, Any] = {"type": "Entra", "isolation_key_source": {"kind": "Entra"}}


class Starts(NamedTuple):
    """How a version's next sessions are started."""

    status: StartStatus
    ready: ReadyStatus


def version(record: VersionRecord, starts: Starts | None = None) -> dict[str, Any]:
    """Return a version object.

    Args:
        record: The version.
        starts: How its sessions are started, if it can be.
    """
    body: dict[str, Any] = {
        "object": "agent.version",
        "id": f"{record.agent}:{record.version}",
        "name": record.agent,
        "version": record.version,
        "created_at": _seconds(record.created_at),
        "status": record.status.value,
        "description": record.description,
        "metadata": dict(record.metadata),
        "definition": shown(record.definition),
        "draft": record.is_draft,
    }
    if record.error is not None:
        body["error"] = {"code": record.error_code or "CodeError", "message": record.error}
    if record.launch is not None:
        body["notes"] = list(record.launch.get("notes", ()))
    if starts is not None:
        start, ready = starts
        body["start"] = {
            "mode": start.mode.value,
            "reason": start.reason,
            "preloaded": list(start.preloaded),
            "left_out": [
                {"module": name, "reason": reason} for name, reason in start.left_out.items()
            ],
            "ready": {"kept": ready.kept, "wanted": ready.wanted, "most": ready.most},
        }
    return body


def agent(
    record: AgentRecord,
    latest: VersionRecord | None,
    running: int,
    now: AgentNow,
    starts: Starts | None = None,
) -> dict[str, Any]:
    """Return an agent object.

    Args:
        record: The agent.
        latest: Its newest version; None if only drafts are left.
        running: How many of its sessions run.
        now: What goes on with it.
        starts: How sessions of its newest version are started.
    """
    protocols = sorted(latest.protocols) if latest is not None else []
    endpoint: dict[str, Any] = {
        "protocol_configuration": {name: {} for name in protocols},
        "authorization_schemes": [_ENTRA],
        **record.endpoint,
        "version_selector": {
            "version_selection_rules": [dict(rule) for rule in rules_of(record.endpoint)]
        },
    }
    body: dict[str, Any] = {
        "object": "agent",
        "id": record.name,
        "name": record.name,
        "state": "enabled" if record.is_enabled else "disabled",
        "created_at": _seconds(record.created_at),
        "versions": {"latest": None if latest is None else version(latest, starts)},
        "running_sessions": running,
        "open_connections": now.connections,
        "errors_today": now.errors_today,
        "agent_endpoint": endpoint,
    }
    if record.card is not None:
        body["agent_card"] = dict(record.card)
    return body


def session(record: SessionRecord) -> dict[str, Any]:
    """Return a session object."""
    body: dict[str, Any] = {
        "agent_session_id": record.key.session_id,
        "version_indicator": {"type": "version_ref", "agent_version": record.version},
        "status": record.status.value,
        "created_at": _seconds(record.created_at),
        "last_accessed_at": _seconds(record.last_accessed_at),
        "expires_at": _seconds(record.expires_at),
    }
    if record.stopped_at is not None:
        body["stopped_at"] = _seconds(record.stopped_at)
    return body


def usage(use: SessionUse, connections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a session that runs uses.

    Args:
        use: What was measured.
        connections: Those that are open, with what went over them so far.
    """
    cpu, memory = use.resources.cpu, use.resources.memory
    all_of_it = dataclasses.replace(use.ended)
    for event in connections:
        all_of_it.add(event)
    return {
        "cpu": None if cpu is None else {"used_s": round(cpu.used, 3), "limit": cpu.limit},
        "memory": None
        if memory is None
        else {"used_bytes": int(memory.used), "limit_bytes": int(memory.limit)},
        "open_connections": len(connections),
        "in": {"frames": all_of_it.frames_in, "bytes": all_of_it.bytes_in},
        "out": {"frames": all_of_it.frames_out, "bytes": all_of_it.bytes_out},
    }


def _seconds(at: dt.datetime) -> int:
    return int(at.timestamp())
