"""What a request is known by."""

import pytest

from trunkline.gateway.requests import marks_in, marks_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()


def test_the_callers_own_are_kept() -> None:
    marks = marks_of(
        [(b"x-request-id", b"mine"), (b"traceparent", PARENT), (b"tracestate", b"a=1"),
         (b"tracestate", b"b=2")]
    )  # fmt: skip
    assert marks.headers() == [
        ("x-request-id", "mine"),
        ("traceparent", PARENT.decode()),
        ("tracestate", "a=1,b=2"),
    ]


def test_without_an_id_the_traces_is_taken() -> None:
    assert marks_of([(b"traceparent", PARENT)]).request_id == TRACE


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, b"\xff"])
def test_an_id_that_is_not_fit_to_be_logged_is_not_taken(given: bytes) -> None:
    marks = marks_of([(b"x-request-id", given)])
    assert marks.request_id == marks.trace.trace_id
    assert len(marks.request_id) == 32


def test_two_ids_are_none() -> None:
    marks = marks_of([(b"x-request-id", b"one"), (b"x-request-id", b"two")])
    assert marks.request_id == marks.trace.trace_id


def test_a_trace_begins_where_there_is_none_and_its_state_is_dropped() -> None:
    one, two = (marks_of([(b"tracestate", b"a=1"), (b"traceparent", b"rubbish")]) for _ in "12")
    assert one.trace.state is None
    assert one.trace.parent.startswith("00-")
    assert one.trace.trace_id != two.trace.trace_id


def test_a_state_that_is_not_ascii_is_dropped() -> None:
    assert marks_of([(b"traceparent", PARENT), (b"tracestate", b"a=\xff")]).trace.state is None


def test_one_request_has_one_of_them() -> None:
    scope = {"headers": [(b"x-request-id", b"")]}
    assert marks_in(scope) is marks_in(scope)
