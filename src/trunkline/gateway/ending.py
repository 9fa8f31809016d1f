"""What is told of a connection that is over: one event, with what it was and who ended it."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from trunkline.config import variable_of
from trunkline.gateway.settings import GatewaySettings
from trunkline.gateway.summary import Summary, Tally
from trunkline.protocol.times import rfc3339


def event_of(
    summary: Summary,
    settings: GatewaySettings,
    *,
    version: str,
    request_id: str,
    address: str,
    at: dt.datetime,
) -> dict[str, Any]:
    """Return the event as the JSON object that is kept.

    Args:
        summary: What the relay saw.
        settings: Whose limits it may have met.
        version: The session's version.
        request_id: The upgrade's id.
        address: The client's address.
        at: When it ended.
    """
    limit = None
    if summary.limit:
        limit = {
            "name": summary.limit,
            "setting": variable_of("gateway", summary.limit),
            "value": getattr(settings, summary.limit),
        }
    return {
        "object": "connection",
        "request_id": request_id,
        "version": version,
        "address": address,
        "opened_at": rfc3339(at - dt.timedelta(seconds=summary.age_s)),
        "closed_at": rfc3339(at),
        "closed_by": summary.by.value,
        "code": summary.code,
        "reason": summary.reason,
        "limit": limit,
        "was_cut": summary.was_cut,
        "age_s": round(summary.age_s, 3),
        "in": _direction(summary.frames_in, summary.bytes_in, summary.quiet_in_s),
        "out": _direction(summary.frames_out, summary.bytes_out, summary.quiet_out_s),
    }


def open_event_of(
    tally: Tally, *, version: str, request_id: str, address: str, at: dt.datetime
) -> dict[str, Any]:
    """Return the same of a connection that is open: without what only its end says.

    Args:
        tally: What the relay saw so far.
        version: The session's version.
        request_id: The upgrade's id.
        address: The client's address.
        at: When that was.
    """
    return {
        "object": "connection",
        "request_id": request_id,
        "version": version,
        "address": address,
        "opened_at": rfc3339(at - dt.timedelta(seconds=tally.age_s)),
        "closed_at": None,
        "age_s": round(tally.age_s, 3),
        "in": _direction(tally.frames_in, tally.bytes_in, tally.quiet_in_s),
        "out": _direction(tally.frames_out, tally.bytes_out, tally.quiet_out_s),
    }


def _direction(frames: int, size: int, quiet_s: float | None) -> dict[str, Any]:
    quiet = None if quiet_s is None else round(quiet_s, 3)
    return {"frames": frames, "bytes": size, "quiet_s": quiet}


def line_of(event: Mapping[str, Any]) -> str:
    """Return the event as the words of a log's line."""
    limit = event["limit"]
    named = f" limit={limit['name']} setting={limit['setting']}" if limit else ""
    sent, got = event["in"], event["out"]
    return (
        f"by={event['closed_by']} code={event['code']} reason={event['reason']!r}{named} "
        f"frames_in={sent['frames']} frames_out={got['frames']} "
        f"bytes_in={sent['bytes']} bytes_out={got['bytes']} "
        f"quiet_in_s={_seconds(sent)} quiet_out_s={_seconds(got)} "
        f"age_s={event['age_s']:.3f} version={event['version']} address={event['address']} "
        f"request_id={event['request_id']}"
    )


def _seconds(direction: Mapping[str, Any]) -> str:
    return "-" if direction["quiet_s"] is None else f"{direction['quiet_s']:.3f}"
