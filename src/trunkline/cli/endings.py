"""How a connection ended, in words: what happened, and what to do. No I/O."""

import datetime as dt

from trunkline.client import EndedConnection
from trunkline.protocol.close import WORKER_ENDED, CloseCode, explain

_MINUTE_S, _HOUR_S = 60, 3600
_KIB, _MIB = 1024, 1024 * 1024
_AGAIN = "connect again with the same session id; the session and its files are kept"

#: What to do about a limit, by its setting's name.
_ABOUT_LIMITS = {
    "max_frame_bytes": "send the message in several frames, or raise {setting}",
    "max_frames_per_s": "send fewer and larger frames, or raise {setting}",
    "max_connection_s": f"{_AGAIN}, or raise {{setting}} (0 is no limit)",
    "idle_connection_s": f"send a ping now and then, or {_AGAIN}, or raise {{setting}}",
    "stalled_reader_s": "read what is sent, or send less; {setting} says how long nobody need read",
}
_ABOUT_CODES = {
    CloseCode.GOING_AWAY: _AGAIN,
    CloseCode.PROTOCOL_ERROR: "look for frames that break RFC 6455 on the side that closed",
    CloseCode.MESSAGE_TOO_BIG: "send smaller messages; the agent's host has a limit of its own "
    "(ws_max_message_bytes)",
    CloseCode.INVALID_PAYLOAD: "send text as UTF-8, and anything else as binary",
    CloseCode.INTERNAL_ERROR: "`trunkline monitor {agent} --session-id {session_id}` shows what "
    "the agent printed",
    CloseCode.SERVICE_RESTART: _AGAIN,
    CloseCode.TRY_AGAIN_LATER: "wait a moment, then connect again with the same session id",
}
_WHO = {
    "client": "the client closed it",
    "agent": "the agent closed it",
    "limit": "a limit closed it",
    "drain": "the platform, told to stop, closed it",
    "revocation": "the platform closed it, because what you came in with was revoked",
    "network": "the connection was lost",
}


def what_happened(end: EndedConnection) -> str:
    """Return who ended it, and how, as one sentence."""
    who = _WHO.get(end.closed_by, f"{end.closed_by or 'somebody'} closed it")
    if end.closed_by == "network":
        said = f": {end.reason}" if end.reason else ""
        return f"{who}{said}; there was no close frame (1006)"
    if end.code == CloseCode.ABNORMAL:
        who = "the agent went away" if end.closed_by == "agent" else who
    if end.closed_by == "limit" and end.limit is not None and end.limit.name:
        who = f"the limit {end.limit.name} closed it"
    said = f"{end.reason!r}" if end.reason else explain(end.code)
    return f"{who} with {end.code}: {said}"


def what_to_do(end: EndedConnection, agent: str, session_id: str) -> str:
    """Return what helps, or nothing if nothing has to be done."""
    if end.limit is not None and end.limit.name in _ABOUT_LIMITS:
        return _ABOUT_LIMITS[end.limit.name].format(setting=end.limit.setting)
    if end.reason == WORKER_ENDED:
        return f"the platform's log says why its worker ended; {_AGAIN}"
    if end.closed_by == "network":
        return f"the client or the network between went away without a word; {_AGAIN}"
    if end.closed_by == "agent" and end.code == CloseCode.ABNORMAL:
        code = CloseCode.INTERNAL_ERROR
    elif end.closed_by != "client" and end.code in _ABOUT_CODES:
        code = CloseCode(end.code)
    else:
        return ""
    return _ABOUT_CODES[code].format(agent=agent, session_id=session_id)


def facts(end: EndedConnection) -> list[str]:
    """Return what else is known, a line each."""
    lines = []
    if end.reason != WORKER_ENDED:
        lines = [
            f"client to agent: {_went(end.sent.frames, end.sent.bytes, end.sent.quiet_s)}",
            "agent to client: "
            + _went(end.received.frames, end.received.bytes, end.received.quiet_s),
        ]
    if end.was_cut:
        lines.append("the close handshake wasn't over in close_timeout_s, and the rest was cut")
    known = [
        f"version {end.version}" if end.version else "",
        f"from {end.address}" if end.address else "",
        f"request {end.request_id}" if end.request_id else "",
    ]
    if any(known):
        lines.append(", ".join(part for part in known if part))
    return lines


def _went(frames: int, size: int, quiet_s: float | None) -> str:
    if quiet_s is None:
        return "nothing"
    counted = f"{frames} frame{'' if frames == 1 else 's'}, {size_text(size)}"
    return f"{counted}, the last {age_text(quiet_s)} before the end"


def age_text(seconds: float) -> str:
    """Return a length of time in words."""
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{int(seconds // _MINUTE_S)} min {int(seconds % _MINUTE_S)} s"
    return f"{int(seconds // _HOUR_S)} h {int(seconds % _HOUR_S // _MINUTE_S)} min"


def size_text(size: int) -> str:
    """Return a number of bytes in words."""
    if size < _KIB:
        return f"{size} bytes"
    if size < _MIB:
        return f"{size / _KIB:.1f} KiB"
    return f"{size / _MIB:.1f} MiB"


def time_text(timestamp: str, zone: dt.tzinfo | None = None) -> str:
    """Return an RFC 3339 time as a local one; as it is, if it isn't one."""
    try:
        when = dt.datetime.fromisoformat(timestamp)
    except ValueError:
        return timestamp
    return when.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
