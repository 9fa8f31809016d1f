"""Agents, described."""

from trunkline.manifest.definition import AgentSettings, CreateVersionRequest
from trunkline.platform.openapi.operation import (
    AGENT,
    PAGE,
    PROJECT,
    Operation,
    Resource,
    answer,
    array,
    flag_in_query,
    in_header,
    integer,
    json_answer,
    json_body,
    obj,
    page,
    schema,
    seconds,
    text,
)

_AGENTS = f"{PROJECT}/agents"
_ONE = json_answer("The agent.", schema("Agent"))
#: JSON, or JSON and a zip: what makes a version.
VERSION_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": schema("CreateVersionRequest")},
        "multipart/form-data": {
            "schema": obj(
                "A definition and its code",
                metadata=text(
                    "A CreateVersionRequest as JSON", contentMediaType="application/json"
                ),
                code={"description": "The zip of the folder", "format": "binary", "type": "string"},
            )
        },
    },
}
CODE_SHA256 = in_header(
    "x-ms-code-zip-sha256",
    "The zip's SHA-256 in lower-case hex. If it is sent with a zip, it is checked.",
    text(),
)

RESOURCE = Resource(
    tag="agents",
    says="What is deployed under a name: versions, and an endpoint that leads to them.",
    operations=(
        Operation(
            method="GET",
            path=_AGENTS,
            name="list_agents",
            says="The agents of the project. Each comes with its latest version.",
            query=PAGE,
            answers={200: json_answer("A page of them.", schema("AgentList"))},
        ),
        Operation(
            method="POST",
            path=_AGENTS,
            name="create_agent",
            says="A new agent with its first version. Its `name` is in the body, or in a header.",
            query=(CODE_SHA256, in_header("x-ms-agent-name", "The agent's name.", text())),
            body=VERSION_BODY,
            answers={200: _ONE},
            refusals=(409, 413),
        ),
        Operation(
            method="GET",
            path=AGENT,
            name="get_agent",
            says="One agent.",
            answers={200: _ONE},
        ),
        Operation(
            method="POST",
            path=AGENT,
            name="update_agent",
            says="The agent as it should be. If the definition or the code changed, there is a new "
            "version; `agent_endpoint` and `agent_card` are taken over if the body has them.",
            query=(CODE_SHA256,),
            body=VERSION_BODY,
            answers={200: _ONE},
            refusals=(409, 413),
        ),
        Operation(
            method="PATCH",
            path=AGENT,
            name="patch_agent",
            says="Merges into the endpoint and the card. As RFC 7396 has it: null removes.",
            body=json_body(schema("AgentPatch"), kinds=("application/merge-patch+json",)),
            answers={200: _ONE},
            refusals=(413,),
        ),
        Operation(
            method="DELETE",
            path=AGENT,
            name="delete_agent",
            says="Removes the agent with its versions. One that has sessions is refused.",
            query=(flag_in_query("force", "Remove its sessions, too."),),
            answers={200: json_answer("It is gone.", schema("DeletedAgent"))},
            refusals=(409,),
        ),
        Operation(
            method="POST",
            path=f"{AGENT}:disable",
            name="disable_agent",
            says="The agent takes no calls from now on. What is open goes on.",
            answers={204: answer("It is disabled.")},
        ),
        Operation(
            method="POST",
            path=f"{AGENT}:enable",
            name="enable_agent",
            says="The agent takes calls again.",
            answers={204: answer("It is enabled.")},
        ),
    ),
    schemas={
        "Agent": obj(
            "An agent",
            object={"const": "agent"},
            id=text("Its name"),
            name=text(),
            state=text(enum=["enabled", "disabled"]),
            created_at=seconds("When it was made"),
            versions=obj(
                "Its versions",
                latest={"anyOf": [schema("AgentVersion"), {"type": "null"}]},
            ),
            running_sessions=integer("How many of its sessions have a process", minimum=0),
            open_connections=integer("WebSocket connections open to it now", minimum=0),
            errors_today=integer(
                "Calls that failed for its or the platform's part since midnight, UTC", minimum=0
            ),
            agent_endpoint=obj(
                "What callers reach",
                version_selector=obj(
                    "How new sessions are spread over versions",
                    version_selection_rules=array({"type": "object"}),
                ),
            ),
            optional={"agent_card": {"type": "object", "description": "How it presents itself"}},
        ),
        "AgentPatch": obj(
            "What changes; null removes, here and inside",
            optional={
                name: {"type": ["object", "null"], "description": f"As {model} has it, in part"}
                for name, model in (
                    ("agent_endpoint", "AgentEndpoint"),
                    ("agent_card", "AgentCard"),
                )
            },
        ),
        "AgentList": page("Agent", "A page of agents"),
        "DeletedAgent": obj(
            "What became of it",
            object={"const": "agent.deleted"},
            name=text(),
            deleted={"const": True},
        ),
    },
)

#: Requests that are checked by models of their own.
MODELS = (CreateVersionRequest, AgentSettings)
