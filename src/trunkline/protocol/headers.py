"""HTTP header and query names of the hosted-agents contract, in lower case."""

SESSION_ID = "x-agent-session-id"
INVOCATION_ID = "x-agent-invocation-id"
USER_ID = "x-agent-user-id"
CALL_ID = "x-agent-foundry-call-id"
REQUEST_ID = "x-request-id"
PLATFORM_SERVER = "x-platform-server"
ERROR_SOURCE = "x-platform-error-source"
ERROR_DETAIL = "x-platform-error-detail"
SESSION_ERROR = "x-adc-response-details"
FOUNDRY_FEATURES = "foundry-features"
CODE_SHA256 = "x-ms-code-zip-sha256"
AGENT_VERSION = "x-ms-agent-version"
AGENT_NAME = "x-ms-agent-name"
#: Whom a caller acts for, and its older names.
USER_IDENTITY = "x-ms-user-identity"
USER_IDENTITY_NAMES = (USER_IDENTITY, "x-ms-user-isolation-key", "x-session-isolation-key")

QUERY_API_VERSION = "api-version"
QUERY_SESSION_ID = "agent_session_id"
QUERY_PROJECT = "project_name"
QUERY_AGENT = "agent_name"
QUERY_FEATURES = "foundry_features"

API_VERSIONS = ("v1", "2025-11-15-preview")
HOSTED_AGENTS_FLAG = "HostedAgents=V1Preview"

#: A caller's headers that reach the agent; everything else stays at the gateway.
FORWARDED_TO_AGENT = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "content-type",
        "content-length",
        "content-encoding",
        "traceparent",
        "tracestate",
        "baggage",
        "x-ms-client-request-id",
        "x-request-id",
        "request-id",
        "correlation-context",
        "request-context",
        "ms-cv",
        "user-agent",
    }
)
#: A caller's own header family, forwarded whole.
FORWARDED_PREFIX = "x-client-"
#: RFC 6455 section 11.3: what the two ends of the WebSocket agree on between themselves.
WEBSOCKET_HANDSHAKE = frozenset(
    {
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
    }
)
#: RFC 9110 section 7.6.1: these speak of one connection and never cross the gateway.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def reaches_agent(name: str) -> bool:
    """Tell whether a caller's header is forwarded to the agent.

    Args:
        name: The header's name in lower case.
    """
    return name in FORWARDED_TO_AGENT or name.startswith(FORWARDED_PREFIX)


def nominated(connection: str) -> frozenset[str]:
    """Return the headers that a ``Connection`` header says are of that connection only.

    RFC 9110 section 7.6.1: they don't cross the gateway. What says where a body ends isn't
    theirs to take away.

    Args:
        connection: Its values, joined by commas.
    """
    names = (name.strip().lower() for name in connection.split(","))
    return frozenset(name for name in names if name and name != "content-length")
