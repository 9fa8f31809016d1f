"""What the environment says, read once and checked. Nothing else here reads the environment."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trunkline.protocol import environment

GRACEFUL_SHUTDOWN_TIMEOUT: Final = "AGENTSERVER_GRACEFUL_SHUTDOWN_TIMEOUT_SECONDS"
APPINSIGHTS_CONNECTION_STRING: Final = "APPLICATIONINSIGHTS_CONNECTION_STRING"
OTLP_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
CAPTURE_MESSAGE_CONTENT: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

DEFAULT_GRACEFUL_SHUTDOWN_S: Final = 30
#: Below the shortest idle timeout of the load balancers usually met (60 s).
DEFAULT_WS_KEEPALIVE_S: Final = 30.0

_HEX_GUID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """A snapshot of the environment; later changes of it are not seen."""

    agent_name: str = ""
    """The agent's name, or empty when nobody gave one."""

    agent_version: str = ""
    """The agent's version, or empty."""

    agent_id: str = ""
    """``name:version``, or the name alone, or empty."""

    agent_guid: str = ""
    """The platform's own identifier of the agent."""

    is_hosted: bool = False
    """Whether a platform started this process."""

    project_endpoint: str = ""
    """URL of the project the agent belongs to."""

    project_id: str = ""
    """The project's resource id."""

    session_id: str = ""
    """The session this process serves; not checked here."""

    session_guid: str = ""
    """The platform's own identifier of the session."""

    port: int = environment.DEFAULT_PORT
    """TCP port to listen on."""

    agent_socket: str = ""
    """Path of the Unix socket to listen on instead of a port, or empty."""

    appinsights_connection_string: str = ""
    """Where telemetry would go; passed on, used by nothing here."""

    otlp_endpoint: str = ""
    """Where spans and metrics go, if a host reports any."""

    capture_message_content: bool = True
    """Whether telemetry may hold what people said."""

    sse_keepalive_interval: int = 0
    """Seconds without an event after which a comment is sent; 0 sends none."""

    ws_ping_interval: float = 0.0
    """``WS_KEEPALIVE_INTERVAL`` as it was set, or 0."""

    ws_keepalive_interval_s: float = DEFAULT_WS_KEEPALIVE_S
    """Seconds between pings when the host is told nothing else; 0 sends none."""

    graceful_shutdown_timeout: int = DEFAULT_GRACEFUL_SHUTDOWN_S
    """Seconds that open requests get at the end, and the shutdown handler after them."""

    stop_timeout_s: float = 0.0
    """Seconds from the first signal until whoever started the process kills it; 0 if unknown."""

    @classmethod
    def from_env(cls, values: Mapping[str, str] | None = None) -> "AgentConfig":
        """Read the environment.

        Args:
            values: What to read instead of the process's environment.

        Raises:
            ValueError: If a variable has a value that makes no sense; the text names it.
        """
        env = os.environ if values is None else values
        name = env.get(environment.AGENT_NAME, "")
        version = env.get(environment.AGENT_VERSION, "")
        is_hosted = bool(env.get(environment.HOSTING_ENVIRONMENT))
        ping = _seconds(env, environment.WS_KEEPALIVE_INTERVAL)
        return cls(
            agent_name=name,
            agent_version=version,
            agent_id=f"{name}:{version}" if name and version else name,
            agent_guid=env.get(environment.AGENT_ID, ""),
            is_hosted=is_hosted,
            project_endpoint=env.get(environment.PROJECT_ENDPOINT, ""),
            project_id=env.get(environment.PROJECT_ARM_ID, ""),
            session_id=env.get(environment.AGENT_SESSION_ID, ""),
            session_guid=_session_guid(env, is_hosted=is_hosted),
            port=_port(env),
            agent_socket=env.get(environment.AGENT_SOCKET, ""),
            appinsights_connection_string=env.get(APPINSIGHTS_CONNECTION_STRING, ""),
            otlp_endpoint=env.get(OTLP_ENDPOINT, ""),
            capture_message_content=env.get(CAPTURE_MESSAGE_CONTENT, "").strip().lower()
            not in ("false", "0"),
            sse_keepalive_interval=max(0, _integer(env, environment.SSE_KEEPALIVE_INTERVAL) or 0),
            ws_ping_interval=ping or 0.0,
            ws_keepalive_interval_s=DEFAULT_WS_KEEPALIVE_S if ping is None else ping,
            graceful_shutdown_timeout=_grace(env),
            stop_timeout_s=_seconds(env, environment.STOP_TIMEOUT) or 0.0,
        )


def telemetry_variables() -> dict[str, str]:
    """Return the variables that configure OpenTelemetry, as they are."""
    return {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}


def check_grace(value: object) -> int:
    """Return the ``graceful_shutdown_timeout`` argument, or say what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"graceful_shutdown_timeout: expected an integer, not {value!r}")
    return max(0, value)


def check_seconds(name: str, value: object, *, allow_zero: bool) -> float:
    """Return a constructor argument that is a number of seconds, or say what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not math.isfinite(value) or value < 0 or (value == 0 and not allow_zero):
        kind = "non-negative" if allow_zero else "positive"
        raise ValueError(f"{name} must be a finite, {kind} number of seconds, not {value!r}")
    return float(value)


def _integer(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name, "").strip()
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} must be an integer, not {text!r}") from None


def _seconds(env: Mapping[str, str], name: str) -> float | None:
    text = env.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number of seconds, not {text!r}") from None
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite, non-negative number of seconds, not {text!r}")
    return value


def _port(env: Mapping[str, str]) -> int:
    port = _integer(env, environment.PORT)
    if port is None:
        return environment.DEFAULT_PORT
    if not 1 <= port <= 65535:
        raise ValueError(f"{environment.PORT} must be between 1 and 65535, not {port}")
    return port


def _grace(env: Mapping[str, str]) -> int:
    grace = _integer(env, GRACEFUL_SHUTDOWN_TIMEOUT)
    return DEFAULT_GRACEFUL_SHUTDOWN_S if grace is None else max(0, grace)


def _session_guid(env: Mapping[str, str], *, is_hosted: bool) -> str:
    guid = env.get(environment.AGENT_SESSION_GUID, "")
    if is_hosted and guid and _HEX_GUID.fullmatch(guid) is None:
        raise ValueError(
            f"{environment.AGENT_SESSION_GUID} must be 32 lower-case hexadecimal digits"
        )
    return guid
