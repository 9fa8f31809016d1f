"""Providers of the SDK, made as the ``OTEL_*`` variables say."""

import logging
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import metrics as metrics_api, trace as trace_api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from trunkline.agentserver._checks import origin
from trunkline.agentserver._config import AgentConfig
from trunkline.agentserver._logging import LOGGER_NAME
from trunkline.agentserver._otel.exporters import QuietMetricExporter, QuietSpanExporter
from trunkline.agentserver._telemetry_config import Signal, TelemetryConfig

logger = logging.getLogger(LOGGER_NAME)


def install(
    config: TelemetryConfig,
    agent: AgentConfig,
    *,
    traces: bool,
    metrics: bool,
    shuts_down_at_exit: bool,
) -> Sequence[Callable[[], object]]:
    """Make the providers and set them for the whole process.

    They are never shut down: a process has one for its life, and a host may be started again.

    Args:
        config: What the variables say.
        agent: Names the service, unless the variables do.
        traces: Whether to make a tracer provider.
        metrics: Whether to make a meter provider.
        shuts_down_at_exit: Whether what waits is sent while the interpreter exits.

    Returns:
        What sends everything that waits, a function for each provider.
    """
    resource = _resource(agent)
    flushes: list[Callable[[], object]] = []
    if metrics:
        with _refusals("metrics"):
            meters = _meter_provider(config, resource, shuts_down_at_exit=shuts_down_at_exit)
            metrics_api.set_meter_provider(meters)
            flushes.append(meters.force_flush)
            logger.info("telemetry: metrics go to %s", _where(config.metrics))
    if traces:
        with _refusals("spans"):
            tracers = _tracer_provider(config, resource, shuts_down_at_exit=shuts_down_at_exit)
            trace_api.set_tracer_provider(tracers)
            flushes.append(tracers.force_flush)
            logger.info("telemetry: spans go to %s", _where(config.traces))
    return flushes


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Say what the SDK objects to, and go on: a wrong variable must not cost the other signal."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - an agent without telemetry beats none at all
        logger.warning(
            "telemetry: %s can't be sent, for OpenTelemetry refuses an OTEL_* variable (%s: %s)",
            what,
            type(error).__name__,
            error,
        )


def _resource(agent: AgentConfig) -> Resource:
    own = {
        "service.name": agent.agent_name,
        "service.version": agent.agent_version,
        # An agent runs as many processes, each counting from zero.
        "service.instance.id": str(uuid.uuid4()),
    }
    said = OTELResourceDetector().detect().attributes
    return Resource.create({k: v for k, v in own.items() if v and not said.get(k)})


def _tracer_provider(
    config: TelemetryConfig, resource: Resource, *, shuts_down_at_exit: bool
) -> TracerProvider:
    provider = TracerProvider(
        sampler=None if config.is_sampler_usable else DEFAULT_ON,
        resource=resource,
        shutdown_on_exit=shuts_down_at_exit,
    )
    exporters: list[SpanExporter] = []
    if config.traces.collector is not None:
        exporters.append(QuietSpanExporter(config.traces.collector))
    if config.traces.to_console:
        exporters.append(ConsoleSpanExporter(out=sys.stdout))
    for exporter in exporters:
        provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=config.span_queue_size,
                schedule_delay_millis=config.span_delay_ms,
                max_export_batch_size=config.span_batch_size,
                # The exporter's own timeout counts; without this the SDK would read, and show,
                # a variable that it doesn't use.
                export_timeout_millis=30_000,
            )
        )
    return provider


def _meter_provider(
    config: TelemetryConfig, resource: Resource, *, shuts_down_at_exit: bool
) -> MeterProvider:
    exporters: list[MetricExporter] = []
    if config.metrics.collector is not None:
        exporters.append(QuietMetricExporter(config.metrics.collector))
    if config.metrics.to_console:
        exporters.append(ConsoleMetricExporter(out=sys.stdout))
    return MeterProvider(
        [
            PeriodicExportingMetricReader(
                exporter,
                export_interval_millis=config.metric_interval_ms,
                export_timeout_millis=config.metric_timeout_ms,
            )
            for exporter in exporters
        ],
        resource=resource,
        shutdown_on_exit=shuts_down_at_exit,
    )


def _where(signal: Signal) -> str:
    places = [origin(signal.collector.url)] if signal.collector is not None else []
    return " and ".join([*places, *(["stdout"] if signal.to_console else [])])
