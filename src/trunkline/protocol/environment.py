"""Names of the environment variables an agent process is given."""

PORT = "PORT"
HOME = "HOME"
#: Path of the Unix socket the agent host listens on instead of ``PORT``. trunkline's own host
#: obeys it; a host that doesn't know it listens on ``PORT``, and the platform finds it there.
AGENT_SOCKET = "TRUNKLINE_AGENT_SOCKET"

#: Seconds that an agent has from SIGTERM until it is killed.
STOP_TIMEOUT = "TRUNKLINE_STOP_TIMEOUT"

#: Names the platform process an agent, and all it starts, belongs to.
NODE = "TRUNKLINE_NODE"

HOSTING_ENVIRONMENT = "FOUNDRY_HOSTING_ENVIRONMENT"
AGENT_NAME = "FOUNDRY_AGENT_NAME"
AGENT_VERSION = "FOUNDRY_AGENT_VERSION"
AGENT_ID = "FOUNDRY_AGENT_ID"
AGENT_SESSION_ID = "FOUNDRY_AGENT_SESSION_ID"
AGENT_SESSION_GUID = "FOUNDRY_AGENT_SESSION_GUID"
PROJECT_ENDPOINT = "FOUNDRY_PROJECT_ENDPOINT"
PROJECT_ARM_ID = "FOUNDRY_PROJECT_ARM_ID"
WS_KEEPALIVE_INTERVAL = "WS_KEEPALIVE_INTERVAL"
SSE_KEEPALIVE_INTERVAL = "SSE_KEEPALIVE_INTERVAL"

SHUTDOWN_GRACE = "AGENTSERVER_GRACEFUL_SHUTDOWN_TIMEOUT_SECONDS"

#: Prefixes a definition's own variables may not use.
RESERVED_PREFIXES = ("FOUNDRY_", "AGENT_")
_RESERVED = (PORT, HOME, AGENT_SOCKET, NODE, STOP_TIMEOUT)

DEFAULT_PORT = 8088


def is_reserved(name: str) -> bool:
    """Tell whether an agent's definition may not set this variable."""
    return name.startswith(RESERVED_PREFIXES) or name in _RESERVED
