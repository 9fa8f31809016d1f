import asyncio
import functools
import logging

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from trunkline import agentserver
from trunkline.agentserver import InvocationAgentServerHost, InvocationsAgentServerHost


async def talk(websocket):
    pass


def test_both_spellings_are_one_class():
    assert InvocationAgentServerHost is InvocationsAgentServerHost
    assert issubclass(InvocationAgentServerHost, Starlette)


def test_everything_exported_is_there():
    assert all(hasattr(agentserver, name) for name in agentserver.__all__)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"request_timeout": 10}, TypeError, "request_timeout"),
        ({"asyncapi_spec_json": "x"}, TypeError, "asyncapi_spec_json must be dict"),
        ({"asyncapi_spec_yaml": {}}, TypeError, "asyncapi_spec_yaml must be str"),
        ({"openapi_spec": []}, TypeError, "openapi_spec must be dict"),
        ({"graceful_shutdown_timeout": 1.5}, ValueError, "expected an integer"),
        ({"log_level": "LOUD"}, ValueError, "Invalid log level"),
        ({"ws_max_message_bytes": 0}, ValueError, "ws_max_message_bytes"),
        ({"ws_max_queued_bytes": 1.5}, TypeError, "ws_max_queued_bytes"),
        ({"ws_keepalive_interval_s": -1}, ValueError, "ws_keepalive_interval_s"),
        ({"ws_close_timeout_s": 0}, ValueError, "ws_close_timeout_s"),
        ({"ws_disconnect_grace_s": "1"}, TypeError, "ws_disconnect_grace_s"),
        ({"drain_timeout_s": -1}, ValueError, "drain_timeout_s"),
    ],
)
def test_bad_arguments_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        InvocationAgentServerHost(**options)


def test_arguments_have_names():
    with pytest.raises(TypeError):
        InvocationAgentServerHost({})


def test_the_config_is_a_snapshot(monkeypatch):
    monkeypatch.setenv("WS_KEEPALIVE_INTERVAL", "15")
    app = InvocationAgentServerHost()
    monkeypatch.delenv("WS_KEEPALIVE_INTERVAL")
    assert app.config.ws_ping_interval == app.ws_ping_interval == 15.0
    with pytest.raises(AttributeError):
        app.ws_ping_interval = 3.0


@pytest.mark.parametrize(
    ("env", "argument", "expected"),
    [(None, None, 30.0), ("0", None, 0.0), ("7", None, 7.0), ("7", 0, 0.0), (None, 2, 2.0)],
)
def test_the_ping_interval_is_argument_then_environment_then_30(
    monkeypatch, env, argument, expected
):
    monkeypatch.delenv("WS_KEEPALIVE_INTERVAL", raising=False)
    if env is not None:
        monkeypatch.setenv("WS_KEEPALIVE_INTERVAL", env)
    app = InvocationAgentServerHost(ws_keepalive_interval_s=argument)
    assert app._ws_settings.keepalive_interval_s == expected
    assert app.ws_ping_interval == float(env or 0)


def test_observability_is_set_up_once_with_what_it_needs():
    calls = []
    InvocationAgentServerHost(
        applicationinsights_connection_string="c",
        log_level="debug",
        configure_observability=lambda **options: calls.append(options),
    )
    assert calls == [
        {"connection_string": "c", "log_level": "DEBUG", "enable_sensitive_data": True}
    ]


def test_observability_may_fail_but_not_be_wrong(caplog):
    def fail(**_options):
        raise RuntimeError("no network")

    def refuse(**_options):
        raise ValueError("nonsense")

    InvocationAgentServerHost(configure_observability=fail)
    assert "going on without" in caplog.text
    with pytest.raises(ValueError, match="nonsense"):
        InvocationAgentServerHost(configure_observability=refuse)


def test_decorators_return_the_function():
    app = InvocationAgentServerHost()
    for decorate in (
        app.ws_handler,
        app.invoke_handler,
        app.invocation_handler,
        app.get_invocation_handler,
        app.cancel_invocation_handler,
        app.shutdown_handler,
    ):
        assert decorate(talk) is talk


def sync(websocket):
    pass


async def nothing():
    pass


async def two(websocket, other):
    pass


async def keyword(websocket, *, needed):
    pass


async def generator(websocket):
    yield


@pytest.mark.parametrize("handler", [sync, generator, lambda websocket: None, None])
def test_a_ws_handler_is_an_async_function(handler):
    with pytest.raises(TypeError, match="async function"):
        InvocationAgentServerHost().ws_handler(handler)


@pytest.mark.parametrize("handler", [nothing, two, keyword])
def test_a_ws_handler_takes_the_websocket(handler):
    with pytest.raises(TypeError, match="single positional argument"):
        InvocationAgentServerHost().ws_handler(handler)


class Agent:
    async def talk(self, websocket):
        pass


async def with_default(websocket, other=1):
    pass


async def with_rest(*websockets):
    pass


@pytest.mark.parametrize(
    "handler", [Agent().talk, with_default, with_rest, functools.partial(two, other=1)]
)
def test_what_can_be_called_with_a_websocket_is_a_ws_handler(handler):
    assert InvocationAgentServerHost().ws_handler(handler) is handler


@pytest.mark.parametrize(
    "name", ["invoke_handler", "get_invocation_handler", "cancel_invocation_handler"]
)
def test_http_handlers_are_async_functions(name):
    with pytest.raises(TypeError, match="async function"):
        getattr(InvocationAgentServerHost(), name)(sync)


def test_a_second_ws_handler_replaces_the_first_and_says_so(caplog):
    app = InvocationAgentServerHost()
    app.ws_handler(talk)
    app.ws_handler(with_default)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "overwriting previously registered handler talk with with_default" in record.message
    assert [route.path for route in app.routes].count("/invocations_ws") == 1


def test_the_ws_route_comes_with_its_handler():
    app = InvocationAgentServerHost()
    assert "/invocations_ws" not in [route.path for route in app.routes]
    app.ws_handler(talk)
    assert "/invocations_ws" in [route.path for route in app.routes]


def test_further_routes_are_served_after_our_own():
    async def mine(_request):
        return PlainTextResponse("mine")

    app = InvocationAgentServerHost(routes=[Route("/mine", mine), Route("/readiness", mine)])
    with TestClient(app) as client:
        assert client.get("/mine").text == "mine"
        assert client.get("/readiness").json() == {"status": "healthy"}


def test_server_versions_add_up():
    app = InvocationAgentServerHost()
    app.register_server_version("extra/1")
    app.register_server_version(" extra/1 ")
    with pytest.raises(ValueError, match="blank"):
        app.register_server_version("  ")
    with TestClient(app) as client:
        value = client.get("/readiness").headers["x-platform-server"]
    assert value.startswith("trunkline-agentserver/")
    assert value.endswith(" extra/1")
    assert value.count("extra/1") == 1


class TestShutdown:
    def serve_once(self, app):
        with TestClient(app):
            pass

    def test_the_shutdown_handler_runs_at_the_end(self):
        app = InvocationAgentServerHost()
        calls = []

        @app.shutdown_handler
        async def end():
            calls.append("end")

        self.serve_once(app)
        assert calls == ["end"]

    def test_a_plain_function_will_do(self, caplog):
        app = InvocationAgentServerHost()
        calls = []
        app.shutdown_handler(lambda: calls.append("end"))
        self.serve_once(app)
        assert calls == ["end"]
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    def test_a_failing_one_stops_nothing(self, caplog):
        app = InvocationAgentServerHost()

        @app.shutdown_handler
        async def end():
            raise RuntimeError("kaboom")

        self.serve_once(app)
        assert "error in shutdown handler" in caplog.text

    def test_a_slow_one_is_cut_off(self, caplog, monkeypatch):
        app = InvocationAgentServerHost(graceful_shutdown_timeout=1)
        # As if the second were over: what is tested is what happens then.
        app._grace_s = 0.01

        @app.shutdown_handler
        async def end():
            await asyncio.Event().wait()

        self.serve_once(app)
        assert "did not complete" in caplog.text

    def test_no_time_means_no_call(self):
        app = InvocationAgentServerHost(graceful_shutdown_timeout=-1)
        calls = []
        app.shutdown_handler(lambda: calls.append("end"))
        self.serve_once(app)
        assert calls == []

    def test_the_timeout_is_in_the_log(self, caplog):
        with caplog.at_level(logging.INFO):
            self.serve_once(InvocationAgentServerHost(graceful_shutdown_timeout=7))
        assert "shutting down (at most 7 s" in caplog.text

    def test_pre_shutdown_callbacks_do_not_stop_each_other(self, caplog):
        app = InvocationAgentServerHost()
        calls = []

        def fail():
            raise RuntimeError("x")

        app.register_pre_shutdown_callback(fail)
        app.register_pre_shutdown_callback(lambda: calls.append("second"))
        app._call_pre_shutdown_callbacks()
        assert calls == ["second"]
        assert "pre-shutdown callback" in caplog.text
