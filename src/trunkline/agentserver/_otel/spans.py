"""The host's spans: what they are called and what they say when they begin.

Names are those of OpenTelemetry's semantic conventions, for HTTP servers and for generative AI
agents. Nothing that was said in a conversation is ever recorded.
"""

from typing import Final

from opentelemetry.trace import Span, SpanKind, Tracer
from opentelemetry.util.types import AttributeValue
from starlette.datastructures import Headers
from starlette.types import Scope

from trunkline.agentserver._config import AgentConfig
from trunkline.agentserver._context import Identity

_INVOKE: Final = "invoke_agent"
_PROVIDER: Final = "trunkline"
_WEBSOCKET_ROUTE: Final = "/invocations_ws"
_ROUTES: Final = {
    "invoke": "/invocations",
    "get": "/invocations/{invocation_id}",
    "cancel": "/invocations/{invocation_id}/cancel",
}
#: Whatever a caller sends may be as long as a request's head.
_MAX_CHARS: Final = 256


class Spans:
    """Begins a span for each request and each WebSocket, as a child of the caller's."""

    def __init__(self, tracer: Tracer, agent: AgentConfig) -> None:
        self._tracer = tracer
        self._agent: dict[str, AttributeValue] = {
            name: value
            for name, value in (
                ("gen_ai.agent.name", agent.agent_name),
                ("gen_ai.agent.version", agent.agent_version),
                ("gen_ai.agent.id", agent.agent_guid),
            )
            if value
        }
        self._invocation: dict[str, AttributeValue] = {
            "gen_ai.operation.name": _INVOKE,
            "gen_ai.provider.name": _PROVIDER,
            **self._agent,
        }
        self._invocation_name = f"{_INVOKE} {agent.agent_name}".rstrip()

    def of_request(self, kind: str, scope: Scope, identity: Identity) -> Span:
        """Begin the span of an HTTP request: an ``invoke``, ``get`` or ``cancel``."""
        attributes = {
            "http.route": _ROUTES[kind],
            "azure.ai.agentserver.invocation_id": identity.invocation_id[:_MAX_CHARS],
            **(self._invocation if kind == "invoke" else self._agent),
            **_of_scope(scope, identity),
        }
        name = self._invocation_name
        if kind != "invoke":
            name = f"{scope['method']} {_ROUTES[kind]}"
        return self._tracer.start_span(name, kind=SpanKind.SERVER, attributes=attributes)

    def of_connection(self, scope: Scope, identity: Identity) -> Span:
        """Begin the span of a WebSocket; it lasts as long as that."""
        attributes = {
            "http.route": _WEBSOCKET_ROUTE,
            **self._invocation,
            **_of_scope(scope, identity),
        }
        return self._tracer.start_span(
            self._invocation_name, kind=SpanKind.SERVER, attributes=attributes
        )


def _of_scope(scope: Scope, identity: Identity) -> dict[str, AttributeValue]:
    """Say what an ASGI scope tells; the query is left out, for it may hold anything."""
    attributes: dict[str, AttributeValue] = {
        # An upgrade is a GET (RFC 6455 section 4.1), and its scope doesn't say so.
        "http.request.method": scope.get("method", "GET"),
        "url.scheme": scope["scheme"],
        "url.path": scope["path"][:_MAX_CHARS],
        "network.protocol.name": "websocket" if scope["type"] == "websocket" else "http",
    }
    if scope["type"] == "http":
        attributes["network.protocol.version"] = scope["http_version"]
    if identity.session_id:
        attributes["gen_ai.conversation.id"] = identity.session_id
    if scope.get("client"):
        attributes["client.address"] = scope["client"][0]
    if scope.get("server"):
        address, port = scope["server"]
        attributes["server.address"] = address
        if port is not None:
            attributes["server.port"] = port
    agent = Headers(scope=scope).get("user-agent")
    if agent:
        attributes["user_agent.original"] = agent[:_MAX_CHARS]
    return attributes
