"""What reports requests and WebSockets through OpenTelemetry's interface."""

import importlib
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from opentelemetry import metrics, trace
from starlette.types import Scope

from trunkline.agentserver._config import AgentConfig
from trunkline.agentserver._context import Identity
from trunkline.agentserver._ending import Ending
from trunkline.agentserver._otel.connections import Connections, connections_of
from trunkline.agentserver._otel.observed import ObservedConnection, ObservedRequest
from trunkline.agentserver._otel.spans import Spans
from trunkline.agentserver._telemetry import Observed
from trunkline.agentserver._telemetry_config import TelemetryConfig

_SCOPE: Final = "trunkline.agentserver"
_PROVIDERS: Final = "trunkline.agentserver._otel.providers"


class OtelRecorder:
    """Makes spans with the tracer provider there is, and metrics with the meter provider.

    A provider is made only where the variables ask for one and the agent's code has set none.
    """

    def __init__(
        self,
        config: TelemetryConfig,
        agent: AgentConfig,
        *,
        is_wished: bool,
        shuts_down_at_exit: bool,
    ) -> None:
        """Set up what is missing.

        Raises:
            ImportError: If the SDK is needed and not installed.
            ValueError: If the SDK refuses a variable.
        """
        needs_traces = config.traces.is_on and not has_tracer_provider()
        needs_metrics = config.metrics.is_on and not has_meter_provider()
        self._flushes: Sequence[Callable[[], object]] = ()
        if needs_traces or needs_metrics:
            # The SDK and the exporters are most of what there is to load.
            providers: Any = importlib.import_module(_PROVIDERS)
            self._flushes = providers.install(
                config,
                agent,
                traces=needs_traces,
                metrics=needs_metrics,
                shuts_down_at_exit=shuts_down_at_exit,
            )
        self._spans: Spans | None = None
        if is_wished or config.traces.is_on:
            self._spans = Spans(trace.get_tracer(_SCOPE, _own_version()), agent)
        self._connections: Connections | None = None
        if is_wished or config.metrics.is_on:
            self._connections = connections_of(
                metrics.get_meter_provider(), _SCOPE, _own_version(), agent.agent_name
            )

    def request(self, kind: str, scope: Scope, identity: Identity) -> Observed:
        """Observe one HTTP request."""
        span = None if self._spans is None else self._spans.of_request(kind, scope, identity)
        return ObservedRequest(span)

    def connection(self, scope: Scope, identity: Identity, ending: Ending) -> Observed:
        """Observe one WebSocket."""
        span = None if self._spans is None else self._spans.of_connection(scope, identity)
        return ObservedConnection(span, self._connections, ending)

    def flushes(self) -> Sequence[Callable[[], object]]:
        """Return what to call, each in a thread of its own, to have everything sent."""
        return self._flushes


def has_tracer_provider() -> bool:
    """Tell whether the agent's code has set one."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def has_meter_provider() -> bool:
    """Tell whether the agent's code has set one."""
    # Unlike the other's, the class of the one that stands in is not public.
    return type(metrics.get_meter_provider()).__name__ != "_ProxyMeterProvider"


def _own_version() -> str:
    try:
        return version("trunkline")
    except PackageNotFoundError:
        return ""
