"""Hosts with OpenTelemetry's real SDK: nothing is set up at first, and records stay in memory."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.websockets import WebSocketDisconnect

from trunkline.agentserver import InvocationAgentServerHost


def forget_providers() -> None:
    """Make the process one in which nobody has set a provider."""
    trace._TRACER_PROVIDER = None
    trace._TRACER_PROVIDER_SET_ONCE = Once()
    metrics_internal._METER_PROVIDER = None
    metrics_internal._METER_PROVIDER_SET_ONCE = Once()
    metrics_internal._PROXY_METER_PROVIDER = metrics_internal._ProxyMeterProvider()


@pytest.fixture
def no_providers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without providers and variables; whatever is set is shut down."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    forget_providers()
    yield
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        if hasattr(provider, "shutdown"):
            provider.shutdown()
    forget_providers()


@dataclass
class Recorded:
    """What the agent's own providers were given."""

    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def metrics(self) -> dict[str, Any]:
        """Collect, and return the metrics by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def value(self, name: str) -> int | float | None:
        """Return the only value of a counter."""
        metric = self.metrics.get(name)
        if metric is None:
            return None
        (point,) = metric.data.data_points
        return point.value


@pytest.fixture
def own_providers(no_providers: None) -> Recorded:
    """Set providers as an agent's own code would."""
    exporter = InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(tracers)
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    return Recorded(exporter, reader)


@pytest.fixture(autouse=True)
def agent(monkeypatch):
    monkeypatch.setenv("FOUNDRY_AGENT_NAME", "parrot")
    monkeypatch.setenv("FOUNDRY_AGENT_VERSION", "3")
    monkeypatch.setenv("FOUNDRY_AGENT_ID", "11111111-2222-3333-4444-555555555555")
    monkeypatch.setenv("FOUNDRY_AGENT_SESSION_ID", "s1")


def make_host(**options):
    options.setdefault("telemetry", True)
    app = InvocationAgentServerHost(**options)
    tracer = trace.get_tracer("author")

    @app.ws_handler
    async def talk(websocket):
        async for text in websocket.iter_text():
            if text == "fail":
                raise LookupError("the word was hunter2")
            if text == "leave":
                raise WebSocketDisconnect(4003)
            with tracer.start_as_current_span("thought"):
                await websocket.send_text(text * 2)

    @app.invoke_handler
    async def invoke(request):
        match (await request.body()).decode():
            case "fail":
                raise LookupError("the word was hunter2")
            case "refuse":
                raise HTTPException(403)
            case "unavailable":
                raise HTTPException(503)
            case "unimplemented":
                raise NotImplementedError
            case "broken stream":
                return StreamingResponse(breaking())
            case "state":
                return PlainTextResponse(request.state.request_id)
        with tracer.start_as_current_span("thought"):
            return PlainTextResponse("answer")

    @app.get_invocation_handler
    async def get(request):
        return PlainTextResponse("so far")

    return app


async def breaking():
    yield "a"
    raise LookupError("the word was hunter2")
