"""Revocations: an identity's credentials, as they are, let nobody in any more."""

import datetime as dt
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.auth.caller import Caller
from trunkline.auth.grants import ANY, Permission
from trunkline.control.services import ControlServices
from trunkline.protocol.errors import InvalidRequestError
from trunkline.protocol.ids import ProjectName
from trunkline.store.records import RevocationRecord
from trunkline.web.body import json_object

_PATH = "/api/revocations"
_MAX_CHARS = 1024


class RevocationList:
    """The operations on revocations. They are for all projects, and so are those who may."""

    def __init__(self, services: ControlServices) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        return [
            Route(_PATH, self.revoke, methods=["POST"]),
            Route(_PATH, self.list_revocations, methods=["GET"]),
        ]

    async def revoke(self, request: Request) -> Response:
        """Revoke all that an identity has been issued so far, and close its connections."""
        caller = await self._admit(request)
        body = await json_object(request)
        issuer, subject = (_text_in(body, name) for name in ("issuer", "subject"))
        record = RevocationRecord(
            issuer=issuer,
            subject=subject,
            revoked_at=dt.datetime.now(dt.UTC),
            revoked_by=caller.identity.owner,
        )
        await self._services.store.add_revocation(record)
        return JSONResponse(_shape(record), 201)

    async def list_revocations(self, request: Request) -> Response:
        await self._admit(request)
        records = await self._services.store.list_revocations()
        return JSONResponse({"object": "list", "data": [_shape(record) for record in records]})

    async def _admit(self, request: Request) -> Caller:
        caller = await self._services.admission.admit(request.headers.get)
        caller.require(Permission.ADMINISTER, ProjectName(ANY))
        return caller


def _text_in(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_CHARS:
        raise InvalidRequestError(f"{name} must be a text", param=name)
    return value


def _shape(record: RevocationRecord) -> dict[str, Any]:
    return {
        "issuer": record.issuer,
        "subject": record.subject,
        "revoked_at": int(record.revoked_at.timestamp()),
        "revoked_by": record.revoked_by,
    }
