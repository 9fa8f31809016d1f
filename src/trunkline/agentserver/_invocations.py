"""The HTTP routes of the host: invocations, their documents, readiness, and refusals."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from trunkline.agentserver._context import (
    Identity,
    identify_existing,
    identify_post,
    reset_request_context,
    set_request_context,
)
from trunkline.agentserver._draining import Draining
from trunkline.agentserver._errors import (
    failure_response,
    not_found,
    not_implemented,
    shutting_down,
)
from trunkline.agentserver._failures import tell
from trunkline.agentserver._logging import LOGGER_NAME
from trunkline.agentserver._middleware import ServerVersion, request_id_for
from trunkline.agentserver._sse import keep_alive
from trunkline.agentserver._telemetry import Observed, Telemetry
from trunkline.agentserver._tracing import Tracing, current_trace_id
from trunkline.protocol import headers

logger = logging.getLogger(LOGGER_NAME)

RequestHandler = Callable[[Request], Awaitable[Response]]


class Agent(Protocol):
    """What the routes need to know of the host they belong to."""

    @property
    def session_id(self) -> str: ...
    @property
    def sse_keepalive_interval_s(self) -> float: ...
    @property
    def draining(self) -> Draining: ...
    @property
    def tracing(self) -> Tracing: ...
    @property
    def telemetry(self) -> Telemetry: ...
    def find_handler(self, kind: str) -> RequestHandler | None: ...


class InvocationRoute:
    """Runs one of the agent's HTTP handlers: an ASGI application for one kind of request.

    The handler's request context stays set until its response is sent, so that a streamed
    body sees it too.
    """

    def __init__(
        self,
        agent: Agent,
        kind: str,
        *,
        identify: Callable[[Request, str], Identity],
        missing: Callable[[], Response],
        names_session: bool,
    ) -> None:
        self._agent = agent
        self._kind = kind
        self._identify = identify
        self._missing = missing
        self._names_session = names_session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive, send)
        identity = self._identify(request, self._agent.session_id)
        # Set one by one: what middleware has put there stays.
        for name, value in identity.as_state().items():
            setattr(request.state, name, value)
        request.state.invocation_id = identity.invocation_id
        token = set_request_context(identity.as_context())
        try:
            with (
                self._agent.tracing.continued(
                    request.headers,
                    invocation_id=identity.invocation_id,
                    session_id=identity.session_id,
                    x_request_id=request.headers.get(headers.REQUEST_ID, ""),
                ),
                self._agent.telemetry.request(self._kind, scope, identity) as observed,
            ):
                if trace_id := current_trace_id():
                    request.state.request_id = trace_id
                response = await self._respond(request, observed)
                observed.answered(response.status_code)
                self._stamp(response, identity)
                await response(scope, receive, send)
        except Exception:
            logger.exception("the response to invocation %a broke off", identity.invocation_id)
            raise
        finally:
            reset_request_context(token)

    async def _respond(self, request: Request, observed: Observed) -> Response:
        if self._kind == "invoke" and self._agent.draining.is_set():
            return shutting_down()
        handler = self._agent.find_handler(self._kind)
        if handler is None:
            return self._missing()
        try:
            response = await handler(request)
            if not isinstance(response, Response):
                raise TypeError(
                    f"the handler returned {type(response).__name__} and not a Response"
                )
        except HTTPException as error:
            return failure_response(error)
        except Exception as error:
            observed.failed(error)
            tell(error)
            logger.exception("the handler of invocation %a failed", request.state.invocation_id)
            return failure_response(error)
        return keep_alive(response, self._agent.sse_keepalive_interval_s)

    def _stamp(self, response: Response, identity: Identity) -> None:
        # An id out of a path may be anything; only what fits in a header is echoed.
        if identity.invocation_id.isascii() and identity.invocation_id.isprintable():
            response.headers[headers.INVOCATION_ID] = identity.invocation_id
        elif headers.INVOCATION_ID in response.headers:
            del response.headers[headers.INVOCATION_ID]
        if self._names_session:
            response.headers[headers.SESSION_ID] = identity.session_id
        elif headers.SESSION_ID in response.headers:
            del response.headers[headers.SESSION_ID]


def http_routes(
    agent: Agent,
    *,
    openapi: dict[str, Any] | None,
    asyncapi_json: dict[str, Any] | None,
    asyncapi_yaml: str | None,
) -> list[BaseRoute]:
    """Return the host's own HTTP routes; the documents come before the ids they look like."""
    existing = InvocationRoute(
        agent,
        "get",
        identify=identify_existing,
        missing=lambda: not_found("The agent does not keep invocations"),
        names_session=False,
    )
    cancel = InvocationRoute(
        agent,
        "cancel",
        identify=identify_existing,
        missing=lambda: not_found("The agent does not cancel invocations"),
        names_session=False,
    )
    create = InvocationRoute(
        agent, "invoke", identify=identify_post, missing=not_implemented, names_session=True
    )
    return [
        Route("/readiness", _readiness(agent), methods=["GET"], name="readiness"),
        Route("/trunkline/draining", _drain(agent), methods=["POST"], name="draining"),
        Route(
            "/invocations/docs/openapi.json",
            _document(openapi, "The agent has no OpenAPI document"),
            methods=["GET"],
        ),
        Route(
            "/invocations/docs/asyncapi.json",
            _document(asyncapi_json, "The agent has no AsyncAPI document in JSON"),
            methods=["GET"],
        ),
        Route(
            "/invocations/docs/asyncapi.yaml",
            _document(asyncapi_yaml, "The agent has no AsyncAPI document in YAML"),
            methods=["GET"],
        ),
        Route("/invocations", create, methods=["POST"], name="create_invocation"),
        Route("/invocations/{invocation_id}", existing, methods=["GET"], name="get_invocation"),
        Route(
            "/invocations/{invocation_id}/cancel",
            cancel,
            methods=["POST"],
            name="cancel_invocation",
        ),
    ]


class NoSuchRoute:
    """The answer to whatever no route was found for, an upgrade included."""

    def __init__(self, version: ServerVersion) -> None:
        self._version = version

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 404."""
        if scope["type"] == "lifespan":
            return
        response: Response = PlainTextResponse("Not Found", status_code=404)
        if scope["type"] == "websocket":
            if "websocket.http.response" not in scope.get("extensions", {}):
                await send({"type": "websocket.close", "code": 1000})
                return
            response = not_found("There is no WebSocket here")
            response.raw_headers.extend(upgrade_headers(scope, self._version))
        await response(scope, receive, send)


def upgrade_headers(scope: Scope, version: ServerVersion) -> list[tuple[bytes, bytes]]:
    """Return the host's headers for the answer to an upgrade request."""
    request_id = request_id_for(Request({**scope, "type": "http"}).headers)
    return [
        (b"x-request-id", request_id.encode("latin-1")),
        (b"x-platform-server", version.header),
    ]


def _readiness(agent: Agent) -> RequestHandler:
    async def readiness(_request: Request) -> Response:
        if agent.draining.is_set():
            return JSONResponse({"status": "draining"}, status_code=503)
        return JSONResponse({"status": "healthy"})

    return readiness


def _drain(agent: Agent) -> RequestHandler:
    async def drain(request: Request) -> Response:
        # Only the platform reaches the host's Unix socket, where nobody has an address.
        if request.client is not None:
            return not_found("Nothing is here")
        agent.draining.set()
        return Response(status_code=204)

    return drain


def _document(content: dict[str, Any] | str | None, missing: str) -> RequestHandler:
    async def document(_request: Request) -> Response:
        if content is None:
            return not_found(missing)
        if isinstance(content, str):
            return Response(content, media_type="application/yaml")
        return JSONResponse(content)

    return document
