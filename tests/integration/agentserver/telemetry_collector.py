"""A collector on loopback that speaks OTLP over HTTP and keeps what it is sent."""

import asyncio
import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """What was sent so far. Values are as they were last."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.status = 200
        self.refused = 0
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.resources: list[dict[str, Any]] = []
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.url = ""

    def span(self, name: str) -> Any:
        """Return the only span of that name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def points(self, name: str) -> list[Any]:
        metric = self.metrics.get(name)
        return (
            [] if metric is None else list(getattr(metric, metric.WhichOneof("data")).data_points)
        )

    def value(self, name: str) -> int | None:
        """Return the value of the only series of a counter."""
        points = self.points(name)
        return points[0].as_int if len(points) == 1 else None

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until what was sent makes ``is_so`` true."""

        def wait() -> None:
            with self._changed:
                assert self._changed.wait_for(is_so, timeout=40), "the collector waits in vain"

        await asyncio.get_running_loop().run_in_executor(None, wait)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Take a request, and return the status to answer with."""
        with self._changed:
            self._changed.notify_all()
            if self.status != 200:
                self.refused += 1
                return self.status
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            self.bodies.append(body)
            self.headers.append(headers)
            if path == "/v1/traces":
                for traced in ExportTraceServiceRequest.FromString(body).resource_spans:
                    self.resources.append(attributes(traced.resource))
                    self.spans += [span for scope in traced.scope_spans for span in scope.spans]
            elif path == "/v1/metrics":
                for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    self.resources.append(attributes(measured.resource))
                    for scope in measured.scope_metrics:
                        self.metrics.update({metric.name: metric for metric in scope.metrics})
            else:
                return 404
            return 200


def attributes(holder: Any) -> dict[str, Any]:
    """Return the attributes of a span, point or resource."""
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in holder.attributes
    }


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(collector.take(self.path, headers, body))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
