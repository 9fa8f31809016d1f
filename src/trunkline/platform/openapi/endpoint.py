"""An agent's endpoint, described: what is passed through to it."""

from collections.abc import Iterator

from trunkline.platform.openapi.operation import (
    AGENT,
    ENDPOINT,
    Json,
    Operation,
    Resource,
    answer,
    in_query,
    json_answer,
    json_body,
    obj,
    schema,
    seconds,
    text,
)

_PROTOCOLS = f"{ENDPOINT}/protocols"
_INVOCATIONS = f"{_PROTOCOLS}/invocations"
#: What reaching a session may be refused with.
_REFUSALS = (403, 409, 424, 429, 502, 503)
_SESSION = in_query(
    "agent_session_id",
    "The session; without it a new one is made.",
    {"anyOf": [schema("SessionId"), {"const": ""}]},
)
_PASSED: Json = answer(
    "The agent's own answer, whatever its status and type; or, if the platform couldn't get one, "
    "an Error.",
    {"*/*": {}},
    {"x-agent-session-id": "The session that answered."},
)
_ANYTHING: Json = {"required": False, "content": {"*/*": {}}}
_UPGRADE = (
    " A request that asks for an upgrade (RFC 6455) is answered with 101, and frames are relayed "
    "untouched; any other is told to ask for one."
)


def _passed(method: str, path: str, name: str, says: str) -> Operation:
    return Operation(
        method=method,
        path=path,
        name=name,
        says=says,
        query=(_SESSION,),
        body=_ANYTHING if method == "POST" else None,
        answers={"default": _PASSED},
    )


def _responses(base: str, prefix: str) -> Iterator[Operation]:
    one = f"{base}/{{response}}"
    yield Operation(
        method="POST",
        path=base,
        name=f"{prefix}create_response",
        says="The agent's `POST /responses`. The body is passed through as it is, and the answer "
        "streamed; what was said is added to the conversation the body names.",
        body=json_body(schema("CreateResponseRequest")),
        answers={"default": _PASSED},
    )
    for method, path, name, says in (
        ("GET", one, "get_response", "The agent's own record of a response."),
        ("DELETE", one, "delete_response", "The agent removes a response."),
        ("POST", f"{one}/cancel", "cancel_response", "The agent cancels a response."),
        ("GET", f"{one}/input_items", "list_input_items", "What a response was asked with."),
    ):
        yield Operation(
            method=method,
            path=path,
            name=prefix + name,
            says=says,
            body=_ANYTHING if method == "POST" else None,
            answers={"default": _PASSED},
        )


RESOURCE = Resource(
    tag="endpoint",
    says="Talking to an agent. What is passed through is the agent's: its answers are not "
    "described here.",
    operations=(
        Operation(
            method="POST",
            path=f"{ENDPOINT}/tickets",
            name="create_ticket",
            says="A ticket, which lets one WebSocket connection in, once, within a minute. It is "
            "for one session: there, or made by the connection.",
            body=json_body(schema("CreateTicketRequest"), is_required=False),
            answers={201: json_answer("The ticket.", schema("Ticket"))},
            refusals=(413,),
        ),
        Operation(
            method="POST",
            path=f"{ENDPOINT}/tickets:renew",
            name="renew",
            says="Lets the caller's connections to a session go on for as long as this request's "
            "token, where connections end with theirs.",
            body=json_body(schema("RenewRequest")),
            answers={200: json_answer("Until when.", schema("Renewal"))},
            refusals=(409, 413),
        ),
        Operation(
            method="GET",
            path=f"{_PROTOCOLS}/invocations_ws",
            name="connect",
            says="The agent's WebSocket." + _UPGRADE,
            query=(_SESSION,),
            answers={
                101: answer(
                    "The WebSocket is open.", headers={"x-agent-session-id": "The session."}
                )
            },
            refusals=(426, *_REFUSALS),
        ),
        Operation(
            method="GET",
            path="/api/projects/agents/endpoint/protocols/invocations_ws",
            name="connect_preview",
            says="The preview form of the same." + _UPGRADE,
            query=(
                in_query("project_name", "The project.", text()),
                in_query("agent_name", "The agent.", text()),
                _SESSION,
            ),
            answers={
                101: answer(
                    "The WebSocket is open.", headers={"x-agent-session-id": "The session."}
                )
            },
            refusals=(426, *_REFUSALS),
            needs_version=False,
        ),
        _passed(
            "POST",
            _INVOCATIONS,
            "invoke",
            "The agent's invoke handler. Both directions are streamed.",
        ),
        _passed(
            "GET", f"{_INVOCATIONS}/{{invocation}}", "get_invocation", "The agent's get handler."
        ),
        _passed(
            "POST",
            f"{_INVOCATIONS}/{{invocation}}/cancel",
            "cancel_invocation",
            "The agent's cancel handler.",
        ),
        *(
            _passed(
                "GET",
                f"{_INVOCATIONS}/docs/{name}",
                f"get_agent_{name.replace('.', '_')}",
                "The agent's own description of itself.",
            )
            for name in ("openapi.json", "asyncapi.json", "asyncapi.yaml")
        ),
        *(
            Operation(
                method="GET",
                path=f"{AGENT}/versions/{{version}}/invocations/docs/asyncapi.{form}",
                name=f"describe_{form}",
                says="The AsyncAPI document that the version publishes. An agent of the version is "
                "asked: the session's, or one that is started for it.",
                query=(_SESSION,),
                answers={200: answer("The document.", {f"application/{form}": {}})},
                refusals=_REFUSALS,
            )
            for form in ("json", "yaml")
        ),
        *_responses(f"{_PROTOCOLS}/openai/responses", ""),
        *_responses(f"{_PROTOCOLS}/openai/v1/responses", "v1_"),
    ),
    schemas={
        "Ticket": obj(
            "What lets one connection in, once",
            ticket=text("For the query's `ticket`, or for a subprotocol"),
            agent_session_id=text("The session it is for"),
            expires_at=seconds("When it is worth nothing any more"),
        ),
        "RenewRequest": obj("Whose connections go on", agent_session_id=schema("SessionId")),
        "Renewal": obj(
            "How long they go on",
            agent_session_id=text("The session"),
            expires_at=seconds("When they end, unless they are renewed again"),
        ),
        "CreateTicketRequest": obj(
            "What the ticket is for",
            optional={
                "agent_session_id": {
                    "anyOf": [schema("SessionId"), {"type": "null"}, {"const": ""}],
                    "description": "The session; without one, an id is made",
                },
                "origin": {
                    "anyOf": [
                        text(pattern=r"^https?://[a-z0-9]{1,63}(:[0-9]{1,4})?$"),
                        {"type": "null"},
                    ],
                    "description": "Where the page that uses it is from; else any that may connect",
                },
                "expires_in_s": {
                    "type": "number",
                    "minimum": 1,
                    "maximum": 60,
                    "default": 60,
                    "description": "Seconds it is good for",
                },
            },
        ),
        "CreateResponseRequest": obj(
            "A request as OpenAI's Responses API has it",
            optional={
                "input": {
                    "anyOf": [
                        text(),
                        {"type": "array", "items": {"type": "object"}},
                        {"type": "null"},
                    ]
                },
                "conversation": {
                    "anyOf": [
                        schema("ItemId"),
                        obj("It", id=schema("ItemId")),
                        {"type": "null"},
                    ]
                },
                "previous_response_id": {},
                "agent_session_id": {
                    "anyOf": [schema("SessionId"), {"type": "null"}, {"const": ""}]
                },
            },
        ),
    },
)
