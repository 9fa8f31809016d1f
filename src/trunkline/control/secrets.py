"""A project's secrets: set, named and removed, and never shown."""

import datetime as dt
import re
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.auth.grants import Permission
from trunkline.control.services import ControlServices
from trunkline.protocol.errors import InvalidRequestError, NotFoundError
from trunkline.sessions.agent_secrets import NAME_PATTERN, NAME_RULE, AgentSecrets
from trunkline.store.records import SecretRecord
from trunkline.web.body import json_object

_PATH: Final = "/api/projects/{project}/secrets"
_NAME: Final = re.compile(NAME_PATTERN)
_MAX_CHARS: Final = 64 * 1024


class Secrets:
    """The operations on a project's secrets."""

    def __init__(self, services: ControlServices, secrets: AgentSecrets) -> None:
        self._services = services
        self._secrets = secrets

    def routes(self) -> list[Route]:
        secret = f"{_PATH}/{{secret}}"
        return [
            Route(_PATH, self.list_secrets, methods=["GET"]),
            Route(secret, self.put_secret, methods=["PUT"]),
            Route(secret, self.delete_secret, methods=["DELETE"]),
        ]

    async def list_secrets(self, request: Request) -> Response:
        _, project = await self._services.admit(request, Permission.DEPLOY)
        records = await self._services.store.list_secrets(project)
        return JSONResponse(
            {
                "object": "list",
                "data": [
                    {"name": record.name, "updated_at": int(record.updated_at.timestamp())}
                    for record in records
                ],
            }
        )

    async def put_secret(self, request: Request) -> Response:
        """Set a secret; sessions that start from now on get it."""
        caller, project = await self._services.admit(request, Permission.DEPLOY)
        name = request.path_params["secret"]
        if not _NAME.fullmatch(name):
            raise InvalidRequestError(f"a secret's name is {NAME_RULE}", param="name")
        value = (await json_object(request)).get("value")
        if not isinstance(value, str) or len(value) > _MAX_CHARS or not _can_be_kept(value):
            raise InvalidRequestError(
                f"value must be a text of up to {_MAX_CHARS} characters without NUL and without "
                "half characters (surrogates)",
                param="value",
            )
        await self._services.store.put_secret(
            SecretRecord(
                project=project,
                name=name,
                sealed=self._secrets.seal_of_project(value, project, name),
                updated_at=dt.datetime.now(dt.UTC),
                updated_by=caller.identity.owner,
            )
        )
        return Response(status_code=204)

    async def delete_secret(self, request: Request) -> Response:
        _, project = await self._services.admit(request, Permission.DEPLOY)
        name = request.path_params["secret"]
        is_name = _NAME.fullmatch(name) is not None
        if not is_name or not await self._services.store.remove_secret(project, name):
            raise NotFoundError(f"project {project!r} has no secret {name[:64]!r}")
        return Response(status_code=204)


def _can_be_kept(value: str) -> bool:
    """Tell whether a text can be a variable of an environment."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value
