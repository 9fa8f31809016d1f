"""API keys: for machines that no provider knows. Made and revoked by a project's admins.

A key is shown once, when it is made; what is kept is its digest. It is random enough that nothing
slower than SHA-256 would make it harder to find.
"""

import datetime as dt
import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from typing import Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.auth.caller import Caller
from trunkline.auth.grants import ANY, PERMISSIONS, Grant, Grants, Permission
from trunkline.auth.identity import Identity
from trunkline.control.services import ControlServices
from trunkline.protocol.errors import (
    AuthenticationError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
)
from trunkline.protocol.ids import AgentName, ProjectName
from trunkline.store.records import ApiKeyRecord, RevocationRecord
from trunkline.web.body import json_object

ISSUER: Final = "urn:trunkline:api-key"
PREFIX: Final = "tlk_"
_KEY: Final = re.compile(r"tlk_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_PATH: Final = "/api/projects/{project}/api-keys"
_DEFAULT_DAYS: Final = 90
_MAX_DAYS: Final = 366
_MAX_NAME_CHARS: Final = 128
_MAX_GRANTS: Final = 100
#: How long a key goes on at another process after it was removed.
_REMEMBERED_S: Final = 2.0
_MAX_REMEMBERED: Final = 1000


class FindsApiKeys(Protocol):
    """What knows the keys there are."""

    async def find_api_key(self, key_id: str) -> ApiKeyRecord | None:
        """Return a key, if it is there."""


class ApiKeyTokens:
    """Knows API keys when they are sent as tokens."""

    def __init__(self, store: FindsApiKeys) -> None:
        self._store = store
        self._known: OrderedDict[str, tuple[ApiKeyRecord | None, float]] = OrderedDict()

    def is_theirs(self, token: str) -> bool:
        return token.startswith(PREFIX)

    async def identify(self, token: str) -> Caller:
        match = _KEY.fullmatch(token)
        record = await self._find(match[1]) if match else None
        digest = record.digest if record is not None else ""
        # Compared in any case, and in constant time: neither how much of it is right nor whether
        # there is such a key takes another time.
        is_right = hmac.compare_digest(digest_of(token), digest)
        if record is None or not is_right:
            raise AuthenticationError("there is no such API key, or it was revoked")
        if record.expires_at <= dt.datetime.now(dt.UTC):
            raise AuthenticationError("the API key has expired; make a new one")
        return Caller(
            identity=Identity(ISSUER, record.key_id),
            grants=Grants.parse(record.grants),
            expires_at=record.expires_at.timestamp(),
            issued_at=record.created_at.timestamp(),
            credential=f"key:{record.key_id}",
        )

    async def _find(self, key_id: str) -> ApiKeyRecord | None:
        found = self._known.get(key_id)
        if found is not None and found[1] > time.monotonic():
            return found[0]
        record = await self._store.find_api_key(key_id)
        self._known[key_id] = (record, time.monotonic() + _REMEMBERED_S)
        self._known.move_to_end(key_id)
        if len(self._known) > _MAX_REMEMBERED:
            self._known.popitem(last=False)
        return record


class ApiKeys:
    """The operations on API keys."""

    def __init__(self, services: ControlServices) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        return [
            Route(_PATH, self.create_api_key, methods=["POST"]),
            Route(_PATH, self.list_api_keys, methods=["GET"]),
            Route(f"{_PATH}/{{key}}", self.delete_api_key, methods=["DELETE"]),
        ]

    async def create_api_key(self, request: Request) -> Response:
        """Make a key that may do no more than whoever makes it."""
        caller, project = await self._services.admit(request, Permission.ADMINISTER)
        body = await json_object(request)
        now = dt.datetime.now(dt.UTC)
        key_id = secrets.token_hex(8)
        key = f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}"
        record = ApiKeyRecord(
            key_id=key_id,
            project=project,
            name=_name_in(body),
            digest=digest_of(key),
            grants=_grants_in(body, caller, project),
            created_by=caller.identity.owner,
            created_at=now,
            expires_at=now + _lifetime_in(body),
        )
        await self._services.store.add_api_key(record)
        return JSONResponse(
            {**_shape(record), "key": key}, 201, headers={"cache-control": "no-store"}
        )

    async def list_api_keys(self, request: Request) -> Response:
        _, project = await self._services.admit(request, Permission.ADMINISTER)
        records = await self._services.store.list_api_keys(project)
        return JSONResponse({"object": "list", "data": [_shape(r) for r in records]})

    async def delete_api_key(self, request: Request) -> Response:
        """Revoke a key: it lets nobody in, and whoever came in with it is cut off."""
        caller, project = await self._services.admit(request, Permission.ADMINISTER)
        key_id = request.path_params["key"]
        revocation = RevocationRecord(
            issuer=ISSUER,
            subject=key_id,
            revoked_at=dt.datetime.now(dt.UTC),
            revoked_by=caller.identity.owner,
        )
        if not await self._services.store.revoke_api_key(project, revocation):
            raise NotFoundError(f"project {project!r} has no API key {key_id[:64]!r}")
        return Response(status_code=204)


def digest_of(key: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _name_in(body: dict[str, Any]) -> str:
    name = body.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > _MAX_NAME_CHARS:
        raise InvalidRequestError(
            f"name must be a text of 1 to {_MAX_NAME_CHARS} characters", param="name"
        )
    if not name.isprintable():
        raise InvalidRequestError("name must be printable", param="name")
    return name


def _grants_in(body: dict[str, Any], caller: Caller, project: ProjectName) -> tuple[str, ...]:
    given = body.get("roles")
    if not isinstance(given, list) or not 1 <= len(given) <= _MAX_GRANTS:
        raise InvalidRequestError("roles must be a list of grants", param="roles")
    found = []
    for text in given:
        try:
            grant = Grant.parse(text if isinstance(text, str) else "")
        except ValueError as exc:
            raise InvalidRequestError(f"roles: {exc}", param="roles") from None
        if grant.project not in (ANY, project):
            raise InvalidRequestError("a key is for its own project only", param="roles")
        grant = Grant(grant.role, project, grant.agent)
        agent = None if grant.agent == ANY else AgentName(grant.agent)
        if not all(caller.grants.allow(p, project, agent) for p in PERMISSIONS[grant.role]):
            raise ForbiddenError(f"nobody can grant what they may not do themselves: {grant}")
        found.append(str(grant))
    return tuple(sorted(set(found)))


def _lifetime_in(body: dict[str, Any]) -> dt.timedelta:
    days = body.get("expires_in_days", _DEFAULT_DAYS)
    if isinstance(days, bool) or not isinstance(days, int | float) or not 0 < days <= _MAX_DAYS:
        raise InvalidRequestError(
            f"expires_in_days must be a number up to {_MAX_DAYS}", param="expires_in_days"
        )
    return dt.timedelta(days=days)


def _shape(record: ApiKeyRecord) -> dict[str, Any]:
    return {
        "id": record.key_id,
        "name": record.name,
        "roles": list(record.grants),
        "created_by": record.created_by,
        "created_at": int(record.created_at.timestamp()),
        "expires_at": int(record.expires_at.timestamp()),
    }
