"""Metrics of WebSockets."""

from starlette.testclient import TestClient

from tests.unit.agentserver.otel.conftest import make_host


def test_metrics_of_websockets(own_providers):
    app = make_host()
    with TestClient(app) as client:
        for _ in range(2):
            with client.websocket_connect("/invocations_ws") as websocket:
                websocket.send_text("ab")
                websocket.receive_text()
    found = own_providers.metrics
    assert {name: metric.unit for name, metric in found.items()} == {
        "websocket.active_connections": "{connection}",
        "websocket.bytes_received": "By",
        "websocket.bytes_sent": "By",
        "websocket.connection.close_code": "{connection}",
        "websocket.connection.duration_ms": "ms",
        "websocket.frames.received": "{frame}",
        "websocket.frames.sent": "{frame}",
    }
    (duration,) = found["websocket.connection.duration_ms"].data.data_points
    assert duration.count == 2
    assert duration.min > 0
    assert duration.explicit_bounds[-1] == 8 * 3600 * 1000
    ended = {"gen_ai.agent.name": "parrot", "websocket.close_code": "1000"}
    assert dict(duration.attributes) == {**ended, "websocket.closed_by": "client"}
    (closed,) = found["websocket.connection.close_code"].data.data_points
    assert closed.value == 2
    assert found["websocket.connection.close_code"].data.is_monotonic
    assert not found["websocket.active_connections"].data.is_monotonic
    values = {
        name: found[name].data.data_points[0].value for name in found if "connection" not in name
    }
    assert values == {
        "websocket.bytes_received": 4,
        "websocket.bytes_sent": 8,
        "websocket.frames.received": 2,
        "websocket.frames.sent": 2,
    }
    assert dict(found["websocket.bytes_sent"].data.data_points[0].attributes) == {
        "gen_ai.agent.name": "parrot"
    }


def test_two_hosts_share_the_instruments(own_providers):
    for _ in range(2):
        with TestClient(make_host()) as client:
            with client.websocket_connect("/invocations_ws") as websocket:
                websocket.send_text("ab")
                websocket.receive_text()
    assert own_providers.value("websocket.frames.sent") == 2
