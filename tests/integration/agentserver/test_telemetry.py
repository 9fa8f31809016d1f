"""Agents as processes of their own, and what they send to a collector."""

import asyncio
import logging
import os
import signal
import socket

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from websockets.asyncio.client import connect

from tests.integration.agentserver.telemetry_collector import attributes, collecting
from trunkline.agentserver._otel.exporters import QuietMetricExporter, QuietSpanExporter
from trunkline.agentserver._telemetry_config import Collector as Target

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"

AGENT = """
    from starlette.responses import PlainTextResponse
    from trunkline.agentserver import InvocationAgentServerHost
    from opentelemetry import trace

    tracer = trace.get_tracer("author")
    app = InvocationAgentServerHost()

    @app.ws_handler
    async def talk(websocket):
        async for text in websocket.iter_text():
            with tracer.start_as_current_span("thought"):
                await websocket.send_text(text * 2)

    @app.invoke_handler
    async def invoke(request):
        with tracer.start_as_current_span("work"):
            if await request.body() == b"fail":
                raise LookupError("hunter2")
            return PlainTextResponse("hunter2")

    app.run()
"""

#: The same without OpenTelemetry, telling at its end what it has done.
PLAIN_AGENT = """
    import sys, threading

    called = []
    sys.addaudithook(
        lambda event, args: called.append(args[1]) if event == "socket.connect" else None
    )

    from starlette.responses import PlainTextResponse
    from trunkline.agentserver import InvocationAgentServerHost

    loaded = lambda: sorted(name for name in sys.modules if name.startswith("opentelemetry"))
    assert loaded() == [], loaded()
    app = InvocationAgentServerHost()

    @app.ws_handler
    async def talk(websocket):
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    @app.invoke_handler
    async def invoke(request):
        return PlainTextResponse("answer")

    @app.shutdown_handler
    def tell():
        print("called:", called, flush=True)
        print("loaded:", loaded(), flush=True)
        # The host's own watchdog is a timer.
        others = [t.name for t in threading.enumerate() if not isinstance(t, threading.Timer)]
        print("threads:", others, flush=True)

    app.run()
"""


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    # The exporters heed proxies; a collector on loopback is reached without.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("FOUNDRY_AGENT_NAME", "parrot")
    monkeypatch.setenv("FOUNDRY_AGENT_SESSION_ID", "s1")


async def finish(host):
    """Stop a host; return its exit code and all it printed."""
    host.process.send_signal(signal.SIGTERM)
    rest = (await host.process.stdout.read()).decode().splitlines()
    return await host.process.wait(), [*host.lines, *rest]


async def post(host, body, *headers):
    """Post an invocation; return the answer's head and body."""
    reader, writer = await asyncio.open_unix_connection(host.socket_path)
    lines = [
        "POST /invocations HTTP/1.1",
        "Host: agent",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    writer.write("\r\n".join([*lines, "", body]).encode())
    answer = await reader.read()
    writer.close()
    return answer.decode()


def talk_to(host, *headers):
    return connect(
        "ws://agent/invocations_ws",
        unix=True,
        path=host.socket_path,
        compression=None,
        ping_interval=None,
        additional_headers=headers,
    )


def hex_of(raw):
    return raw.hex()


async def test_spans_and_metrics_reach_a_collector(start_host):
    with collecting() as collector:
        host = await start_host(
            AGENT,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_EXPORTER_OTLP_HEADERS="api-key=secret",
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
            OTEL_METRIC_EXPORT_INTERVAL="100",
        )
        async with talk_to(host, ("traceparent", TRACEPARENT)) as client:
            assert client.response.headers["x-request-id"] == TRACE
            await client.send("hunter2")
            assert await client.recv() == "hunter2hunter2"
            # Seen while the conversation lasts.
            await collector.until(lambda: collector.value("websocket.bytes_sent") == 14)
            assert collector.value("websocket.active_connections") == 1
            assert collector.points("websocket.connection.duration_ms") == []
            await client.send("x")
            await client.recv()
            await client.close(4001)
        answer = await post(host, "fail")
        assert " 500 " in answer.splitlines()[0]
        code, lines = await finish(host)

    assert code == 0, lines
    # What waited when the host was told to stop has been sent.
    talk, work = [span for span in collector.spans if span.name == "invoke_agent parrot"]
    assert hex_of(talk.trace_id) == TRACE
    assert hex_of(talk.parent_span_id) == PARENT
    assert talk.kind == talk.SPAN_KIND_SERVER
    thoughts = [span for span in collector.spans if span.name == "thought"]
    assert [span.parent_span_id for span in thoughts] == [talk.span_id] * 2
    assert {hex_of(span.trace_id) for span in thoughts} == {TRACE}
    said = attributes(talk)
    assert said["gen_ai.conversation.id"] == "s1"
    assert said["websocket.close_code"] == 4001
    assert (said["websocket.frames.received"], said["websocket.bytes_received"]) == (2, 8)
    assert (said["websocket.frames.sent"], said["websocket.bytes_sent"]) == (2, 16)

    assert work.parent_span_id == b""
    assert f"x-request-id: {hex_of(work.trace_id)}" in answer
    assert collector.span("work").parent_span_id == work.span_id
    assert attributes(work)["error.type"] == "LookupError"
    assert work.status.code == work.status.STATUS_CODE_ERROR

    assert collector.value("websocket.frames.sent") == 2
    assert collector.value("websocket.frames.received") == 2
    assert collector.value("websocket.bytes_sent") == 16
    assert collector.value("websocket.bytes_received") == 8
    assert collector.value("websocket.active_connections") == 0
    (duration,) = collector.points("websocket.connection.duration_ms")
    (ended,) = collector.points("websocket.connection.close_code")
    assert (duration.count, ended.as_int) == (1, 1)
    assert attributes(ended) == {
        "gen_ai.agent.name": "parrot",
        "websocket.close_code": "4xxx",
        "websocket.closed_by": "client",
    }

    assert {resource["service.name"] for resource in collector.resources} == {"parrot"}
    assert {r["deployment.environment.name"] for r in collector.resources} == {"test"}
    assert len({resource["service.instance.id"] for resource in collector.resources}) == 1
    assert {headers["api-key"] for headers in collector.headers} == {"secret"}
    # What was said never leaves, except as what the agent's own code records.
    own = [span for span in collector.spans if span.name != "work"]
    assert not any(b"hunter2" in span.SerializeToString() for span in own)
    assert "secret" not in "\n".join(lines)
    assert f"telemetry: spans go to {collector.url}" in "\n".join(lines)


async def test_with_nothing_configured_nothing_is_loaded_and_nobody_called(start_host):
    host = await start_host(PLAIN_AGENT)
    async with talk_to(host) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    assert (await post(host, "")).endswith("answer")
    code, lines = await finish(host)
    assert code == 0, lines
    assert "called: []" in lines
    assert "loaded: []" in lines
    assert "threads: ['MainThread']" in lines


async def test_to_continue_a_trace_the_sdk_is_not_loaded(start_host):
    host = await start_host(PLAIN_AGENT, OTEL_SERVICE_NAME="x", OTEL_METRICS_EXPORTER="none")
    answer = await post(host, "", f"traceparent: {TRACEPARENT}")
    assert f"x-request-id: {TRACE}" in answer
    code, lines = await finish(host)
    assert code == 0, lines
    assert "called: []" in lines
    (loaded,) = [line for line in lines if line.startswith("loaded: ")]
    assert "'opentelemetry.propagate'" in loaded
    assert "opentelemetry.sdk" not in loaded
    assert "opentelemetry.exporter" not in loaded
    assert "threads: ['MainThread']" in lines


@pytest.mark.parametrize("is_listening", [False, True], ids=["refuses", "never answers"])
async def test_a_collector_that_is_down_costs_two_lines_and_a_bounded_wait(
    start_host, is_listening
):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        if is_listening:
            nobody.listen()
        host = await start_host(
            AGENT,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{nobody.getsockname()[1]}",
            OTEL_METRIC_EXPORT_INTERVAL="50",
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_EXPORTER_OTLP_TIMEOUT="0.2",
            OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="600",
            AGENTSERVER_GRACEFUL_SHUTDOWN_TIMEOUT_SECONDS="0",
        )
        await host.line_with("telemetry: metrics don't reach http://127.0.0.1")
        async with talk_to(host) as client:
            await client.send("ab")
            assert await client.recv() == "abab"
        assert (await post(host, "")).endswith("hunter2")
        code, lines = await finish(host)
    assert code == 0, lines
    # The spans would be tried for ten minutes.
    assert [line for line in lines if "could not be sent within 1 s" in line]
    assert len([line for line in lines if "metrics don't reach" in line]) == 1
    assert [line for line in lines if "Traceback" in line or "retrying" in line] == []
    assert all("INFO" in line or "WARNING telemetry:" in line for line in lines), lines


async def test_without_the_extra_one_line_says_so(start_host):
    source = "    import sys\n    sys.modules['opentelemetry'] = None\n" + PLAIN_AGENT.replace(
        'startswith("opentelemetry")', 'startswith("opentelemetry.")'
    )
    host = await start_host(source, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    answer = await post(host, "", f"traceparent: {TRACEPARENT}")
    assert answer.endswith("answer")
    code, lines = await finish(host)
    assert code == 0, lines
    (line,) = [line for line in lines if "telemetry" in line]
    assert "install trunkline[otel]" in line
    assert "called: []" in lines


async def test_wrong_variables_stop_nothing(start_host):
    with collecting() as collector:
        host = await start_host(
            AGENT,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="collector:4318",
            OTEL_BSP_SCHEDULE_DELAY="soon",
            OTEL_BSP_EXPORT_TIMEOUT="later",
            OTEL_TRACES_SAMPLER="sometimes",
            OTEL_EXPORTER_OTLP_TIMEOUT="long",
        )
        assert (await post(host, "")).endswith("hunter2")
        code, lines = await finish(host)
    assert code == 0, lines
    assert collector.span("invoke_agent parrot")
    assert collector.metrics == {}
    warnings = [line.split("telemetry: ")[1] for line in lines if "WARNING" in line]
    assert sorted(warning.split()[0] for warning in warnings) == [
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_TRACES_SAMPLER",
    ]
    assert [line for line in lines if "Traceback" in line] == []


def telemetry_lines(caplog):
    return [r.getMessage() for r in caplog.records if "telemetry: " in r.getMessage()]


def test_an_outage_is_told_once_and_its_end_once(caplog):
    caplog.set_level(logging.INFO)
    metrics = MetricsData(resource_metrics=[])
    with collecting() as collector:
        exporter = QuietMetricExporter(
            Target(url=f"{collector.url}/v1/metrics", timeout_s=5, compression="none")
        )
        assert exporter.export(metrics) is MetricExportResult.SUCCESS
        collector.status = 400
        for _ in range(3):
            assert exporter.export(metrics) is MetricExportResult.FAILURE
        assert collector.refused == 3
        collector.status = 200
        for _ in range(2):
            assert exporter.export(metrics) is MetricExportResult.SUCCESS
        first, second = telemetry_lines(caplog)
        assert first.startswith(f"telemetry: metrics don't reach {collector.url} (")
        assert "400" in first
        assert second == f"telemetry: metrics reach {collector.url} again"
        exporter.shutdown()
    # Nothing but what was told.
    assert [r for r in caplog.records if r.name.startswith("opentelemetry")] == []


def test_others_may_still_complain_with_the_same_logger(caplog):
    exporter = QuietSpanExporter(
        Target(url="http://127.0.0.1:9/v1/traces", timeout_s=1, compression="none")
    )
    logging.getLogger(OTLPSpanExporter.__module__).warning("not about us")
    assert "not about us" in caplog.text
    exporter.shutdown()


def test_an_exporter_that_breaks_fails_without_a_traceback(caplog, monkeypatch):
    exporter = QuietSpanExporter(
        Target(url="http://127.0.0.1:9/v1/traces", timeout_s=1, compression="none")
    )

    def breaking(_self, _spans):
        raise RuntimeError("inside")

    monkeypatch.setattr(OTLPSpanExporter, "export", breaking)
    provider = TracerProvider(shutdown_on_exit=False)
    span = provider.get_tracer("t").start_span("s")
    span.end()
    for _ in range(2):
        assert exporter.export([span]) is SpanExportResult.FAILURE
    (line,) = telemetry_lines(caplog)
    assert "(RuntimeError)" in line
    assert all(record.exc_info is None for record in caplog.records)
    exporter.shutdown()
