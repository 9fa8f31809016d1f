"""Sums over the WebSockets that are open and those that were."""

import threading

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from trunkline.agentserver._ending import ClosedBy, Ending
from trunkline.agentserver._otel.connections import Connections, connections_of


class Ends:
    """Stands for the instruments, and keeps what they are told."""

    def __init__(self):
        self.seen = []

    def record(self, duration_ms, attributes):
        self.seen.append((duration_ms, attributes))


@pytest.mark.parametrize(
    ("code", "closed_by", "expected"),
    [
        (1000, ClosedBy.CLIENT, "1000"),
        (1006, ClosedBy.NETWORK, "1006"),
        (1015, ClosedBy.CLIENT, "1015"),
        (3000, ClosedBy.CLIENT, "3xxx"),
        (4999, ClosedBy.CLIENT, "4xxx"),
        (4999, ClosedBy.HANDLER, "4999"),
    ],
)
def test_a_client_cannot_make_up_close_codes(code, closed_by, expected):
    ends = Ends()
    connections = Connections(ends, "")
    ending = Ending()
    opened_at = connections.opened(ending)
    ending.settle(code, closed_by)
    connections.closed(ending, opened_at)
    ((duration, attributes),) = ends.seen
    assert duration >= 0
    assert attributes == {"websocket.close_code": expected, "websocket.closed_by": closed_by}


def test_what_is_open_counts_and_what_was_counts_once():
    connections = Connections(Ends(), "parrot")
    one, two = Ending(), Ending()
    opened_at = connections.opened(one)
    connections.opened(two)
    one.sent_bytes, two.sent_bytes = 3, 4
    assert (connections.active(), connections.total("sent_bytes")) == (2, 7)
    connections.closed(one, opened_at)
    assert (connections.active(), connections.total("sent_bytes")) == (1, 7)
    two.sent_bytes += 5
    assert connections.total("sent_bytes") == 12
    assert connections.total("received_messages") == 0


def test_a_sum_never_falls_while_websockets_come_and_go():
    connections = Connections(Ends(), "parrot")
    is_over = threading.Event()
    falls = []

    def collect():
        last = 0
        while not is_over.is_set():
            total = connections.total("sent_messages")
            if total < last:
                falls.append((last, total))
            last = total

    collector = threading.Thread(target=collect)
    collector.start()
    for _ in range(5000):
        ending = Ending()
        opened_at = connections.opened(ending)
        ending.sent_messages = 1000
        connections.closed(ending, opened_at)
    is_over.set()
    collector.join()
    assert falls == []
    assert connections.total("sent_messages") == 5_000_000


def test_a_provider_is_asked_once():
    provider = NoOpMeterProvider()
    first = connections_of(provider, "scope", "1", "parrot")
    assert connections_of(provider, "scope", "1", "parrot") is first
    assert connections_of(provider, "scope", "1", "other") is not first
    assert connections_of(NoOpMeterProvider(), "scope", "1", "parrot") is not first
