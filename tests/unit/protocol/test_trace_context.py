"""Which trace a request belongs to."""

import pytest
from hypothesis import given, strategies as st

from trunkline.protocol.trace_context import begun, joined

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "parent",
    [
        GOOD,
        f"00-{TRACE}-{SPAN}-00",
        f" {GOOD}\t",
        f"01-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-00",
    ],
)
def test_a_trace_is_joined_as_it_is(parent: str) -> None:
    found = joined([parent], ["a=1", "", "b=2"])
    assert found is not None
    assert found.parent == parent.strip()
    assert found.state == "a=1,b=2"
    assert found.trace_id == TRACE


@pytest.mark.parametrize(
    "parents",
    [
        [],
        [""],
        [GOOD, GOOD],
        [f"{GOOD}, {GOOD}"],
        [GOOD.upper()],
        [f"ff-{TRACE}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}-01-more"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE[1:]}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}"],
        [f"{GOOD}\r\nx: y"],
    ],
)
def test_what_is_not_well_formed_is_no_trace(parents: list[str]) -> None:
    assert joined(parents, ["a=1"]) is None


def test_no_state_is_none() -> None:
    found = joined([GOOD], [])
    assert found is not None
    assert found.state is None


def test_one_that_begins_is_well_formed_and_sampled() -> None:
    trace = begun(TRACE, SPAN)
    assert trace.parent == GOOD
    assert joined([trace.parent], []) == trace


@given(st.text())
def test_nothing_breaks_it(parent: str) -> None:
    found = joined([parent], [])
    assert found is None or "\n" not in found.parent
