"""Versions, described."""

from trunkline.platform.openapi.agents import CODE_SHA256, VERSION_BODY
from trunkline.platform.openapi.operation import (
    AGENT,
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
    obj,
    page,
    schema,
    seconds,
    text,
)

_VERSIONS = f"{AGENT}/versions"
_VERSION = f"{_VERSIONS}/{{version}}"
_ONE = json_answer("The version.", schema("AgentVersion"))

RESOURCE = Resource(
    tag="versions",
    says="What an agent was at one deploy: immutable, with an environment of its own.",
    operations=(
        Operation(
            method="POST",
            path=_VERSIONS,
            name="create_version",
            says="A new version, and the agent with its first one. It is built in the background: "
            "ask for it until its `status` is `active` or `failed`. The same definition and code "
            "again answer with the version that is there.",
            query=(CODE_SHA256,),
            body=VERSION_BODY,
            answers={200: _ONE},
            refusals=(409, 413),
        ),
        Operation(
            method="GET",
            path=_VERSIONS,
            name="list_versions",
            says="The agent's versions.",
            query=(*PAGE, flag_in_query("include_drafts", "The drafts, too.")),
            answers={200: json_answer("A page of them.", schema("AgentVersionList"))},
        ),
        Operation(
            method="GET",
            path=_VERSION,
            name="get_version",
            says="One version.",
            answers={200: _ONE},
        ),
        Operation(
            method="DELETE",
            path=_VERSION,
            name="delete_version",
            says="Removes a version. One that has sessions is refused.",
            query=(flag_in_query("force", "Remove its sessions, too."),),
            answers={200: json_answer("It is gone.", schema("DeletedAgentVersion"))},
            refusals=(409,),
        ),
        Operation(
            method="GET",
            path=f"{_VERSION}/buildlog",
            name="get_build_log",
            says="What the version's build printed.",
            answers={200: answer("The log.", {"text/plain": {"schema": {"type": "string"}}})},
        ),
        Operation(
            method="GET",
            path=f"{AGENT}/code:download",
            name="download_code",
            says="The zip that a version was made from.",
            query=(in_query("agent_version", "Which; the latest if it is left out.", text()),),
            answers={
                200: answer(
                    "The zip.",
                    {"application/zip": {}},
                    {
                        "x-ms-code-zip-sha256": "Its SHA-256 in lower-case hex.",
                        "x-ms-agent-version": "The version.",
                    },
                )
            },
        ),
    ),
    schemas={
        "AgentVersion": obj(
            "A version of an agent",
            object={"const": "agent.version"},
            id=text("As `agent:3`"),
            name=text("The agent's name"),
            version=text("A number that grows, or a draft's name"),
            created_at=seconds("When it was made"),
            status=text(enum=["creating", "active", "failed", "deleting", "deleted"]),
            description={"type": ["string", "null"]},
            metadata={"type": "object", "additionalProperties": {"type": "string"}},
            definition={"type": "object", "description": "The definition as it is kept"},
            draft=boolean("Whether no rule routes to it"),
            optional={
                "error": obj(
                    "Why its build failed",
                    code=text(enum=["CodeError", "ImageError", "ProvisioningError"]),
                    message=text(),
                ),
                "notes": array(text(), "What its build made of it that one wouldn't expect"),
                "start": obj(
                    "How its next session is started",
                    mode=text("From a zygote, or as a program", enum=["zygote", "spawn"]),
                    reason=text("Why not from a zygote; empty if there is nothing to say"),
                    preloaded=array(text(), "Modules that a zygote has imported for all sessions"),
                    left_out=array(
                        obj(
                            "A module that each session imports",
                            module=text(),
                            reason=text("Why it isn't preloaded"),
                        )
                    ),
                    ready=obj(
                        "Its sessions that are kept ready for callers who name none",
                        kept=integer("How many are"),
                        wanted=integer("How many are to be, by the callers who came lately"),
                        most=integer("How many may be"),
                    ),
                ),
            },
        ),
        "AgentVersionList": page("AgentVersion", "A page of versions"),
        "DeletedAgentVersion": obj(
            "What became of it",
            object={"const": "agent.version.deleted"},
            name=text(),
            version=text(),
            deleted={"const": True},
        ),
    },
)
