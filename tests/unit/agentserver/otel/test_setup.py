"""Whether there is any telemetry, and whose providers it goes through."""

import logging
import sys
import threading
from types import SimpleNamespace

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import TracerProvider
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from tests.unit.agentserver.otel.conftest import make_host
from trunkline.agentserver import InvocationAgentServerHost
from trunkline.agentserver._config import AgentConfig
from trunkline.agentserver._telemetry import Telemetry

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("wish", "variables"),
    [
        (None, {}),
        (None, {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_EXPORTER": "none"}),
        (False, {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE}),
        (True, {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_SDK_DISABLED": "true"}),
        (True, {"OTEL_SDK_DISABLED": "true"}),
    ],
)
def test_unless_it_is_asked_for_the_host_reports_nothing(
    own_providers, monkeypatch, caplog, wish, variables
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with TestClient(make_host(telemetry=wish)) as client:
        client.post("/invocations", headers=TRACEPARENT)
        with client.websocket_connect("/invocations_ws") as websocket:
            websocket.send_text("ab")
            websocket.receive_text()
    # The agent's own spans are children of the caller's all the same.
    assert {span.name for span in own_providers.spans} <= {"thought"}
    assert own_providers.metrics == {}
    assert [r for r in caplog.records if "telemetry" in r.getMessage()] == []
    for span in own_providers.spans[:1]:
        assert f"{span.parent.span_id:016x}" == PARENT


def test_what_the_agent_has_set_up_is_used_and_kept(own_providers, monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOWHERE)
    tracers, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
    threads = threading.active_count()
    with TestClient(make_host(telemetry=None)) as client:
        client.post("/invocations")
        with client.websocket_connect("/invocations_ws"):
            pass
    assert trace.get_tracer_provider() is tracers
    assert metrics.get_meter_provider() is meters
    assert threading.active_count() <= threads
    assert [span.name for span in own_providers.spans].count("invoke_agent parrot") == 2
    assert own_providers.value("websocket.active_connections") == 0
    assert [r for r in caplog.records if "telemetry" in r.getMessage()] == []


def test_the_agents_own_lifespan_comes_first(no_providers, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", NOWHERE)
    own = TracerProvider(shutdown_on_exit=False)

    class Lifespan:
        def __init__(self, _app):
            pass

        async def __aenter__(self):
            trace.set_tracer_provider(own)

        async def __aexit__(self, *_error):
            pass

    with TestClient(make_host(telemetry=None, lifespan=Lifespan)):
        assert trace.get_tracer_provider() is own


def test_of_two_signals_only_the_one_that_is_asked_for(own_providers, monkeypatch):
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "console")
    with TestClient(make_host(telemetry=None)) as client:
        with client.websocket_connect("/invocations_ws"):
            pass
        client.post("/invocations", content="fail")
    assert own_providers.spans == []
    assert own_providers.value("websocket.active_connections") == 0


def test_only_spans(own_providers, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    with TestClient(make_host(telemetry=None)) as client:
        with client.websocket_connect("/invocations_ws"):
            pass
    assert [span.name for span in own_providers.spans] == ["invoke_agent parrot"]
    assert own_providers.metrics == {}


def test_the_variables_set_it_up(no_providers, monkeypatch, capsys, caplog):
    caplog.set_level(logging.INFO, logger="azure.ai.agentserver")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "console")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=9,team=birds")
    app = make_host(telemetry=None)
    # Not before it is served.
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    # A second time, too: there is one provider in a process, and it is used again.
    for _ in range(2):
        with TestClient(app) as client:
            client.post("/invocations", headers=TRACEPARENT)
        printed = capsys.readouterr().out
        assert '"name": "invoke_agent parrot"' in printed
        assert '"name": "thought"' in printed
        assert '"websocket.active_connections"' in printed
    resource = trace.get_tracer_provider().resource.attributes
    assert resource["service.name"] == "parrot"
    assert resource["service.version"] == "9"
    assert resource["team"] == "birds"
    assert len(resource["service.instance.id"]) == 36
    assert [r.getMessage() for r in caplog.records if "telemetry" in r.getMessage()] == [
        "telemetry: metrics go to stdout",
        "telemetry: spans go to stdout",
    ]


def test_without_a_lifespan_it_starts_with_the_first_request(no_providers, monkeypatch):
    registered = []
    monkeypatch.setattr("atexit.register", lambda function: registered.append(function))
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    client = TestClient(make_host(telemetry=None))
    assert not hasattr(trace.get_tracer_provider(), "force_flush")
    client.post("/invocations")
    provider = trace.get_tracer_provider()
    assert hasattr(provider, "force_flush")
    # Nobody will tell it of the end.
    assert provider.shutdown in registered


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.sdk.trace"])
def test_if_it_is_not_installed_one_line_says_so(no_providers, monkeypatch, caplog, missing):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOWHERE)
    for name in [n for n in sys.modules if n.startswith("trunkline.agentserver._otel")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    app = InvocationAgentServerHost()

    @app.invoke_handler
    async def invoke(_request):
        return PlainTextResponse("answer")

    with TestClient(app) as client:
        assert client.post("/invocations").text == "answer"
    (record,) = [r for r in caplog.records if "telemetry" in r.getMessage()]
    assert "install trunkline[otel]" in record.getMessage()
    assert record.exc_info is None


def test_what_the_sdk_refuses_costs_one_signal_and_no_more(no_providers, monkeypatch, caplog):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "console")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many")
    with TestClient(make_host(telemetry=None)) as client:
        assert client.post("/invocations").status_code == 200
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    assert hasattr(metrics.get_meter_provider(), "force_flush")
    (record,) = [r for r in caplog.records if "telemetry" in r.getMessage()]
    assert "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT" in record.getMessage()
    assert record.exc_info is None


def test_wrong_variables_are_named_when_the_host_starts(no_providers, monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")
    with TestClient(make_host(telemetry=None)) as client:
        client.post("/invocations")
    lines = [r.getMessage() for r in caplog.records if "OTEL_" in r.getMessage()]
    assert len(lines) == 2
    assert all(line.startswith("telemetry: OTEL_EXPORTER_OTLP_ENDPOINT must be") for line in lines)


def test_the_wish_must_be_yes_or_no():
    with pytest.raises(TypeError, match="telemetry must be bool"):
        InvocationAgentServerHost(telemetry="yes")


def test_a_sampler_that_is_wrong_leaves_the_default(no_providers, monkeypatch, caplog):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "all")
    with TestClient(make_host(telemetry=None)):
        assert "root:AlwaysOnSampler" in trace.get_tracer_provider().sampler.get_description()
    (record,) = [r for r in caplog.records if "OTEL_" in r.getMessage()]
    assert "OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1" in record.getMessage()


def test_a_sampler_that_is_right_is_heeded(no_providers, monkeypatch, capsys):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    with TestClient(make_host(telemetry=None)) as client:
        response = client.post("/invocations", headers=TRACEPARENT)
    assert response.text == "answer"
    assert capsys.readouterr().out == ""


def test_whatever_else_goes_wrong_the_agent_starts(no_providers, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setenv("OTEL_METRICS_EXPORTER", "console")
        # Read by OpenTelemetry itself, when it is asked for the provider.
        patch.setenv("OTEL_PYTHON_METER_PROVIDER", "nobody")
        with TestClient(make_host(telemetry=None)) as client:
            assert client.post("/invocations").status_code == 200
    (record,) = [r for r in caplog.records if "telemetry could not" in r.getMessage()]
    assert "StopIteration" in record.getMessage()
    assert record.exc_info is None


async def test_a_flush_that_fails_is_told_and_holds_nobody_up(caplog):
    def fail():
        raise RuntimeError("the reader failed")

    is_called = threading.Event()
    telemetry = Telemetry(None, {}, AgentConfig())
    telemetry._recorder = SimpleNamespace(flushes=lambda: [fail, is_called.set])
    await telemetry.flush(left_s=-3)
    assert is_called.is_set()
    (record,) = caplog.records
    assert record.getMessage().endswith("could not be sent: the reader failed")


async def test_a_flush_that_hangs_is_left_behind(caplog):
    is_over = threading.Event()
    is_left = threading.Event()

    def hang():
        is_over.wait()
        is_left.set()

    telemetry = Telemetry(None, {}, AgentConfig())
    telemetry._recorder = SimpleNamespace(flushes=lambda: [hang])
    # No time left is a second, so that what works is sent even then.
    await telemetry.flush(left_s=0)
    assert not is_left.is_set()
    is_over.set()
    assert is_left.wait(10)
    assert "could not be sent within 1 s" in caplog.text
