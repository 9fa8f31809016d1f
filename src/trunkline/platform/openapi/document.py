"""The whole document, put together when it is first asked for."""

import functools
import json
from collections import defaultdict
from typing import Any, Final

from pydantic.json_schema import models_json_schema

import trunkline
from trunkline.platform.openapi import (
    agents,
    conversations,
    credentials,
    endpoint,
    files,
    health,
    sessions,
    versions,
)
from trunkline.platform.openapi.operation import Json, Resource, obj, schema, text
from trunkline.protocol import errors, headers, ids
from trunkline.protocol.errors import TrunklineError

RESOURCES: Final[tuple[Resource, ...]] = (
    agents.RESOURCE,
    versions.RESOURCE,
    sessions.RESOURCE,
    files.RESOURCE,
    endpoint.RESOURCE,
    conversations.RESOURCE,
    credentials.RESOURCE,
    health.RESOURCE,
)


def build() -> Json:
    """Return the OpenAPI document (OpenAPI Specification 3.1.1)."""
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "trunkline",
            "version": trunkline.__version__,
            "description": "Agents behind one WebSocket: what is deployed, their sessions, files "
            "and logs, and talking to them. The contract is that of Microsoft Foundry hosted "
            "agents; what a request has beyond what is described here is kept or ignored.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": resource.tag, "description": resource.says} for resource in RESOURCES],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "`trunkline token` makes one on the machine of the platform.",
                }
            },
            "parameters": _parameters(),
            "headers": {
                "x-request-id": {
                    "description": "The request's, if it is fit to be logged; else a new one.",
                    "schema": {"type": "string"},
                }
            },
            "responses": _refusals(),
            "schemas": _schemas(),
        },
    }


@functools.cache
def encoded() -> bytes:
    """Return the document as JSON."""
    return json.dumps(build(), ensure_ascii=False, separators=(",", ":")).encode()


def _paths() -> Json:
    paths: defaultdict[str, Json] = defaultdict(dict)
    for resource in RESOURCES:
        for operation in resource.operations:
            paths[operation.path][operation.method.lower()] = operation.to_openapi(resource.tag)
    return dict(paths)


def _parameters() -> Json:
    in_path = {
        "project": ("The project; `_default` and `_project` stand for the default one.", text()),
        "agent": ("The agent's name.", schema("AgentName")),
        "version": ("A version: a number, or a draft's name.", text()),
        "session": ("The session's id.", schema("SessionIdInPath")),
        "conversation": ("The conversation's id.", text()),
        "item": ("The item's id.", text()),
        "response": ("The response's id.", text()),
        "secret": (
            "The secret's name.",
            text(pattern="^[A-Za-z_][A-Za-z0-9_]*$", maxLength=128),
        ),
        "key": ("The API key's id.", text()),
        "invocation": ("The invocation's id.", text()),
    }
    parameters: Json = {
        name: {"name": name, "in": "path", "required": True, "description": says, "schema": shape}
        for name, (says, shape) in in_path.items()
    }
    parameters["api-version"] = {
        "name": headers.QUERY_API_VERSION,
        "in": "query",
        "required": True,
        "description": "The version of the contract.",
        "schema": text(enum=list(headers.API_VERSIONS)),
        "example": headers.API_VERSIONS[0],
    }
    return parameters


def _refusals() -> Json:
    codes: defaultdict[int, set[str]] = defaultdict(set)
    for thing in vars(errors).values():
        if isinstance(thing, type) and issubclass(thing, TrunklineError):
            codes[thing.status].add(thing.code)
    return {
        f"refused-{status}": {
            "description": f"Refused: {', '.join(f'`{code}`' for code in sorted(found))}.",
            "headers": {"x-request-id": {"$ref": "#/components/headers/x-request-id"}},
            "content": {"application/json": {"schema": schema("Error")}},
        }
        for status, found in sorted(codes.items())
    }


def _schemas() -> Json:
    _, models = models_json_schema(
        [(model, "validation") for model in agents.MODELS],
        ref_template="#/components/schemas/{model}",
    )
    made: Json = {
        "AgentName": text(f"{ids.AGENT_NAME_RULE}.", pattern=_whole(ids.AGENT_NAME_PATTERN)),
        "SessionId": text(f"{ids.SESSION_ID_RULE}.", pattern=_whole(ids.SESSION_ID_PATTERN)),
        # A client makes of a dot, or two, another path (RFC 3986 section 5.2.4).
        "SessionIdInPath": text(
            f"{ids.SESSION_ID_RULE}.",
            pattern="^[A-Za-z0-9._:-]*[A-Za-z0-9_:-][A-Za-z0-9._:-]*$",
            maxLength=ids.MAX_SESSION_ID_CHARS,
        ),
        "ItemId": text(
            "1 to 128 characters of ASCII that can be printed.", pattern="^[ -~]{1,128}$"
        ),
        "Error": obj(
            "What was wrong, and what would be right",
            error=obj(
                "It",
                code=text("Stable; the documentation lists them"),
                message=text("For people"),
                param={"type": ["string", "null"], "description": "What part of the request"},
                type=text(enum=["invalid_request_error", "server_error"]),
                details={"type": "array"},
                additionalInfo={"type": "object"},
                debugInfo={"type": "object"},
            ),
        ),
        **models.get("$defs", {}),
    }
    for resource in RESOURCES:
        made.update(resource.schemas)
    return made


def _whole(pattern: Any) -> str:
    return f"^{pattern}$"
