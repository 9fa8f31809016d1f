"""Sessions and their logs, described."""

from trunkline.platform.openapi.operation import (
    AGENT,
    ENDPOINT,
    PAGE,
    Operation,
    Resource,
    answer,
    array,
    boolean,
    flag_in_query,
    in_query,
    integer,
    json_answer,
    json_body,
    obj,
    page,
    schema,
    seconds,
    text,
)

_SESSIONS = f"{ENDPOINT}/sessions"
_SESSION = f"{_SESSIONS}/{{session}}"
_INCLUDE = in_query("include", "What else to tell.", text(enum=["usage"]))
_LOG_QUERY = (
    in_query("kind", "Which log.", text(enum=["console", "system"], default="console")),
    flag_in_query("follow", "Go on with what comes.", default=True),
    in_query(
        "tail", "How many lines to begin with.", integer(minimum=0, maximum=10_000, default=300)
    ),
    in_query("after", "The `offset` of an event to go on behind.", integer(minimum=0)),
)


def _log(path: str, name: str) -> Operation:
    return Operation(
        method="GET",
        path=path,
        name=name,
        says="The session's log as server-sent events. Each is `event: log` with JSON in `data`: "
        "`timestamp`, `stream`, `message`, `offset`. While nothing happens, a comment comes every "
        "15 seconds.",
        query=_LOG_QUERY,
        answers={200: answer("The events.", {"text/event-stream": {}})},
        refusals=(403,),
    )


RESOURCE = Resource(
    tag="sessions",
    says="One process of one version, with a home folder and a log of its own, and one owner.",
    operations=(
        Operation(
            method="POST",
            path=_SESSIONS,
            name="create_session",
            says="A session made ahead of its first call, and started. The same again answers with "
            "the session that is there.",
            body=json_body(schema("CreateSessionRequest"), is_required=False),
            answers={201: json_answer("The session.", schema("Session"))},
            refusals=(403, 409, 413, 424, 429, 503),
        ),
        Operation(
            method="GET",
            path=_SESSIONS,
            name="list_sessions",
            says="The caller's sessions.",
            query=(*PAGE, _INCLUDE),
            answers={200: json_answer("A page of them.", schema("SessionList"))},
        ),
        Operation(
            method="GET",
            path=_SESSION,
            name="get_session",
            says="One session.",
            query=(_INCLUDE,),
            answers={200: json_answer("The session.", schema("Session"))},
            refusals=(403, 503),
        ),
        Operation(
            method="GET",
            path=f"{_SESSION}/connections",
            name="list_connections",
            says="How the session's last WebSocket connections ended, the newest first: who "
            "closed, with what, and which limit it was if it was one. Or those that are open, with "
            "what went over them so far.",
            query=(
                in_query("limit", "How many.", integer(minimum=1, maximum=100, default=20)),
                in_query("state", "Which.", text(enum=["open", "closed"], default="closed")),
            ),
            answers={200: json_answer("The connections.", schema("ConnectionList"))},
            refusals=(403, 503),
        ),
        Operation(
            method="POST",
            path=f"{_SESSION}:stop",
            name="stop_session",
            says="Ends its process and its connections. The session and its files are kept, and "
            "the next call starts it again.",
            answers={204: answer("It has no process.")},
            refusals=(403, 503),
        ),
        Operation(
            method="DELETE",
            path=_SESSION,
            name="delete_session",
            says="Removes the session, its files and its log. One of the caller's that is "
            "gone is as good as removed.",
            answers={204: answer("It is gone.")},
            refusals=(403, 409, 503),
        ),
        _log(f"{AGENT}/sessions/{{session}}:logstream", "stream_log"),
        _log(f"{AGENT}/versions/{{version}}/sessions/{{session}}:logstream", "stream_version_log"),
    ),
    schemas={
        "Session": obj(
            "A session",
            agent_session_id=text("Its id"),
            version_indicator=schema("VersionIndicator"),
            status=text(enum=["creating", "active", "idle", "failed", "deleting"]),
            created_at=seconds("When it was made"),
            last_accessed_at=seconds("When it was last used"),
            expires_at=seconds("When it will be removed, unless it is used"),
            optional={
                "stopped_at": seconds("When its process ended"),
                "usage": {
                    "description": "What it uses, if that was asked for; null if it doesn't run",
                    "anyOf": [schema("SessionUsage"), {"type": "null"}],
                },
            },
        ),
        "SessionList": page("Session", "A page of sessions"),
        "ConnectionList": obj(
            "Connections that are over",
            object={"const": "list"},
            data=array({"anyOf": [schema("Connection"), schema("OpenConnection")]}),
        ),
        "OpenConnection": obj(
            "A connection that is open",
            object={"const": "connection"},
            request_id=text("The upgrade's `x-request-id`"),
            version=text("The version it goes to"),
            address=text("The client's address"),
            opened_at=text("When it began", format="date-time"),
            closed_at={"type": "null"},
            age_s={"type": "number", "description": "Seconds it has lasted"},
            optional={
                "in": schema("ConnectionDirection"),
                "out": schema("ConnectionDirection"),
            },
        ),
        "SessionUsage": obj(
            "What a session that runs uses",
            cpu={
                "description": "Processor time since its process began; null if nobody counts it",
                "anyOf": [
                    obj(
                        "Processor time",
                        used_s={"type": "number", "description": "Seconds"},
                        limit={"type": "number", "description": "How many processors it may use"},
                    ),
                    {"type": "null"},
                ],
            },
            memory={
                "description": "Memory, what files keep in it included; null if nobody counts it",
                "anyOf": [
                    obj(
                        "Memory",
                        used_bytes=integer("How much it has", minimum=0),
                        limit_bytes=integer("How much it may have", minimum=0),
                    ),
                    {"type": "null"},
                ],
            },
            open_connections=integer("WebSocket connections now", minimum=0),
            optional={"in": schema("Traffic"), "out": schema("Traffic")},
        ),
        "Traffic": obj(
            "What went one way since its process began: `in` to the agent, `out` back",
            frames=integer("Frames, control frames included", minimum=0),
            bytes=integer("Bytes, frame headers included", minimum=0),
        ),
        "Connection": obj(
            "A connection that is over",
            object={"const": "connection"},
            request_id=text("The upgrade's `x-request-id`"),
            version=text("The version it went to"),
            address=text("The client's address"),
            opened_at=text("When it began", format="date-time"),
            closed_at=text("When both ends were gone", format="date-time"),
            closed_by=text(
                "Who ended it", enum=["client", "agent", "limit", "drain", "revocation", "network"]
            ),
            code=integer("The close code; 1006 if there was no close frame"),
            reason=text("The close frame's text, or what is known"),
            limit={
                "description": "The limit that ended it",
                "anyOf": [
                    obj(
                        "A limit",
                        name=text("Its name"),
                        setting=text("The variable that sets it"),
                        value={"type": "number", "description": "What it was"},
                    ),
                    {"type": "null"},
                ],
            },
            was_cut=boolean("Whether the close handshake wasn't over in `close_timeout_s`"),
            age_s={"type": "number", "description": "Seconds it lasted"},
            optional={
                "in": schema("ConnectionDirection"),
                "out": schema("ConnectionDirection"),
            },
        ),
        "ConnectionDirection": obj(
            "What went one way: `in` from the client to the agent, `out` back",
            frames=integer("Frames, control frames included", minimum=0),
            bytes=integer("Bytes, frame headers included", minimum=0),
            quiet_s={
                "type": ["number", "null"],
                "description": "Seconds from the last byte to the end, to about a second; null if "
                "there was none",
            },
        ),
        "VersionIndicator": obj(
            "One version",
            type={"const": "version_ref"},
            agent_version=text("As `3`"),
        ),
        "CreateSessionRequest": obj(
            "What the session should be like",
            optional={
                "agent_session_id": {
                    "anyOf": [schema("SessionId"), {"type": "null"}, {"const": ""}],
                    "description": "Its id; without one, one is made",
                },
                "version_indicator": {
                    "anyOf": [
                        obj(
                            "One version",
                            agent_version=text("As `3`", minLength=1, pattern="^[^@]"),
                            optional={"type": {"const": "version_ref"}},
                        ),
                        {"type": "null"},
                    ],
                    "description": "Its version; without one, the endpoint's rules choose",
                },
            },
        ),
    },
)
