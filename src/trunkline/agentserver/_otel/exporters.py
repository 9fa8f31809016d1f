"""OTLP exporters that say once that the collector can't be reached, and once that it can again.

OpenTelemetry's own write several lines for every batch, for as long as that lasts.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from trunkline.agentserver._checks import origin
from trunkline.agentserver._logging import LOGGER_NAME
from trunkline.agentserver._telemetry_config import Collector

logger = logging.getLogger(LOGGER_NAME)

_MAX_CHARS = 200


class Outage(logging.Filter):
    """Keeps an exporter's own records from the log, and remembers the first for its reason.

    Only records of the exporter's thread, while it exports: others may use the same logger.
    """

    def __init__(self, what: str, url: str, exporter_logger: str) -> None:
        super().__init__()
        self._what = what
        self._where = origin(url)
        self._is_out = False
        self._thread: int | None = None
        self._reason = ""
        logging.getLogger(exporter_logger).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record pass unless it is about the export under way."""
        if record.thread != self._thread:
            return True
        if not self._reason:
            self._reason = _reason(record)
        return False

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """Hold the exporter's records back."""
        self._reason = ""
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            self._thread = None

    def ended(self, *, is_fine: bool) -> None:
        """Note how an export went, and say so if it went otherwise than the one before."""
        if is_fine and self._is_out:
            logger.info("telemetry: %s reach %s again", self._what, self._where)
        elif not is_fine and not self._is_out:
            logger.warning(
                "telemetry: %s don't reach %s (%s); later ones are tried without a word",
                self._what,
                self._where,
                self._reason or "no reason given",
            )
        self._is_out = not is_fine

    def broke(self, error: Exception) -> None:
        """Note that an export failed in a way that the exporter doesn't know."""
        self._reason = type(error).__name__
        self.ended(is_fine=False)


class QuietSpanExporter(OTLPSpanExporter):
    """Sends spans."""

    def __init__(self, collector: Collector) -> None:
        super().__init__(
            endpoint=collector.url,
            timeout=collector.timeout_s,
            compression=_compression(collector),
        )
        self._outage = Outage("spans", collector.url, OTLPSpanExporter.__module__)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch. Never fails."""
        try:
            with self._outage.exporting():
                result = super().export(spans)
        except Exception as error:  # noqa: BLE001 - the SDK would print the traceback
            self._outage.broke(error)
            return SpanExportResult.FAILURE
        self._outage.ended(is_fine=result is SpanExportResult.SUCCESS)
        return result


class QuietMetricExporter(OTLPMetricExporter):
    """Sends metrics."""

    def __init__(self, collector: Collector) -> None:
        super().__init__(
            endpoint=collector.url,
            timeout=collector.timeout_s,
            compression=_compression(collector),
        )
        self._outage = Outage("metrics", collector.url, OTLPMetricExporter.__module__)

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **options: Any
    ) -> MetricExportResult:
        """Send a collection. Never fails."""
        try:
            with self._outage.exporting():
                result = super().export(metrics_data, timeout_millis, **options)
        except Exception as error:  # noqa: BLE001 - the SDK would print the traceback
            self._outage.broke(error)
            return MetricExportResult.FAILURE
        self._outage.ended(is_fine=result is MetricExportResult.SUCCESS)
        return result


def _compression(collector: Collector) -> Compression:
    return Compression(collector.compression)


def _reason(record: logging.LogRecord) -> str:
    """Return why an export failed: the class of the exception, or what was answered."""
    for argument in record.args if isinstance(record.args, tuple) else ():
        if isinstance(argument, BaseException):
            return type(argument).__name__
    return record.getMessage()[:_MAX_CHARS]
