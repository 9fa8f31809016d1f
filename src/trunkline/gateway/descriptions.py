"""A version's own AsyncAPI document, by the version's path: asked of an agent of that version."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from trunkline.aio.threads import in_thread
from trunkline.auth import noted
from trunkline.auth.caller import Caller
from trunkline.auth.grants import Permission
from trunkline.gateway import routes
from trunkline.gateway.forwarding import agent_headers
from trunkline.gateway.reach import reach
from trunkline.gateway.responses import CLIENT_CLOSED_REQUEST
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.streaming import Answer, Call
from trunkline.manifest.asyncapi import MAX_BYTES, asyncapi_fault
from trunkline.protocol import headers
from trunkline.protocol.errors import (
    InvalidRequestError,
    NotFoundError,
    ProtocolNotDeclaredError,
    UpstreamError,
)
from trunkline.protocol.ids import SessionKey
from trunkline.sessions.directory import SessionDirectory, new_session_id

_DOCS = "/api/projects/{project}/agents/{agent}/versions/{version}/invocations/docs"
_TYPES: Final = {"asyncapi.json": "application/json", "asyncapi.yaml": "application/yaml"}
#: Either lets an agent be asked.
_PROTOCOLS = ("invocations", "invocations_ws")
#: Seconds that the document may take once it has begun to come.
_READ_TIMEOUT_S = 20.0


class Descriptions:
    """The documents, in both forms."""

    def __init__(self, services: GatewayServices, sessions: SessionDirectory) -> None:
        self._services = services
        self._sessions = sessions

    def routes(self) -> list[Route]:
        """Return the routes to serve."""
        return [Route(f"{_DOCS}/{name}", self.describe, methods=["GET"]) for name in _TYPES]

    async def describe(self, request: Request) -> Response:
        """Ask an agent of the version, started for it if the query names none."""
        services = self._services
        caller = await services.admission.admit(request.headers.get)
        values = routes.parse_query(request.scope["query_string"].decode("latin-1"))
        routes.check_api_version(next(iter(values.get(headers.QUERY_API_VERSION, ())), None))
        project = services.projects.get(request.path_params["project"])
        agent = routes.parse_agent(request.path_params["agent"])
        caller.require(Permission.USE, project, agent)
        named = routes.parse_session_id(values)
        key = SessionKey(project, agent, named or new_session_id())
        noted.session_is(key.session_id)
        services.refuse_if_draining()
        version = request.path_params["version"]
        record = await self._sessions.create(key, caller, version=version)
        try:
            document = await self._asked(request, key, caller)
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        finally:
            if named is None:
                services.tasks.spawn(self._sessions.delete(record), name=f"described:{key}")
        name = request.scope["path"].rpartition("/")[2]
        fault = await in_thread(asyncapi_fault, document, is_yaml=name.endswith(".yaml"))
        if fault is not None:
            raise InvalidRequestError(
                f"the {name} that version {version} of agent {agent!r} publishes isn't an "
                f"AsyncAPI document: {fault}"
            )
        return Response(document, media_type=_TYPES[name])

    async def _asked(self, request: Request, key: SessionKey, caller: Caller) -> bytes:
        asked = agent_headers(request, caller, self._services)
        # It is looked at, so it must not be compressed.
        asked["accept-encoding"] = "identity"
        name = request.scope["path"].rpartition("/")[2]
        call = Call(request, asked, f"/invocations/docs/{name}")
        async with self._answer(key, caller, call) as answer:
            if answer.answer.status == 404:
                raise NotFoundError(f"the version publishes no {name}")
            if answer.answer.status != 200:
                raise UpstreamError(
                    f"the agent answered with status {answer.answer.status} when it was asked for "
                    f"its {name}"
                )
            try:
                async with asyncio.timeout(_READ_TIMEOUT_S):
                    return await _whole(answer)
            except TimeoutError:
                raise UpstreamError(
                    f"the agent's {name} wasn't all there after {_READ_TIMEOUT_S:g} s"
                ) from None

    @asynccontextmanager
    async def _answer(self, key: SessionKey, caller: Caller, call: Call) -> AsyncIterator[Answer]:
        try:
            lease, answer = await reach(self._services, key, caller, _PROTOCOLS[0], call.send)
        except ProtocolNotDeclaredError:
            lease, answer = await reach(self._services, key, caller, _PROTOCOLS[1], call.send)
        try:
            yield answer
        finally:
            await answer.aclose()
            lease.release()


async def _whole(answer: Answer) -> bytes:
    document = bytearray()
    try:
        async for chunk in answer.answer.content.iter_any():
            document += chunk
            if len(document) > MAX_BYTES:
                raise InvalidRequestError(f"what the version publishes is over {MAX_BYTES} bytes")
    except aiohttp.ClientError as error:
        raise UpstreamError("the agent ended the answer in the middle") from error
    return bytes(document)
