import sys
import types

import pytest

from trunkline.agentserver._tracing import Tracing, current_trace_id, trace_id_of

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", TRACE),
        (f"cc-{TRACE}-b7ad6b7169203331-01-later", TRACE),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01", ""),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", ""),
        (f"00-{TRACE}", ""),
        ("", ""),
    ],
)
def test_trace_ids_in_headers(header, expected):
    assert trace_id_of(header) == expected


def test_without_opentelemetry_nothing_happens(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    tracing = Tracing()
    for _ in range(2):
        with tracing.continued({"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}, session_id="s"):
            pass
    assert tracing._is_absent


class FakeTelemetry:
    """The part of OpenTelemetry's interface that is used, noting what happens."""

    def __init__(self, monkeypatch):
        self.current = {"base": True}
        self.seen = []
        monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
        for name, members in {
            "opentelemetry": {},
            "opentelemetry.propagate": {"extract": self.extract},
            "opentelemetry.baggage": {"set_baggage": self.set_baggage},
            "opentelemetry.context": {
                "get_current": lambda: self.current,
                "attach": self.attach,
                "detach": self.detach,
            },
            "opentelemetry.trace": {"get_current_span": self.get_current_span},
        }.items():
            module = types.ModuleType(name)
            vars(module).update(members)
            monkeypatch.setitem(sys.modules, name, module)

    def extract(self, carrier, context):
        return {**context, **carrier}

    def set_baggage(self, key, value, context):
        return {**context, key: value}

    def attach(self, context):
        before, self.current = self.current, context
        return before

    def detach(self, token):
        self.current = token

    def get_current_span(self):
        trace_id = int(TRACE, 16) if "traceparent" in self.current else 0
        context = types.SimpleNamespace(trace_id=trace_id)
        return types.SimpleNamespace(get_span_context=lambda: context)


def test_the_callers_context_is_current_inside_and_only_there(monkeypatch):
    telemetry = FakeTelemetry(monkeypatch)
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "baggage": ""}
    assert current_trace_id() == ""
    with Tracing().continued(headers, session_id="s", invocation_id="", x_request_id="r"):
        assert telemetry.current == {
            "base": True,
            "traceparent": headers["traceparent"],
            "azure.ai.agentserver.session_id": "s",
            "x_request_id": "r",
        }
        assert current_trace_id() == TRACE
    assert telemetry.current == {"base": True}
