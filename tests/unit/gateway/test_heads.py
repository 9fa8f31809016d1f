"""Any bytes at the front door, split anywhere: the same decisions, and nothing breaks."""

import asyncio
import itertools

import pytest
from hypothesis import given, settings, strategies as st

from fuzz.front_door import PIECES, FrontDoorHarness
from trunkline.gateway.heads import check_head
from trunkline.protocol.errors import InvalidRequestError

PARTS = st.one_of(
    st.sampled_from(PIECES),
    st.binary(max_size=12),
    st.integers(0, 120).map(lambda count: b"A: b\r\n" * count),
)


@pytest.fixture(scope="module")
def harness() -> FrontDoorHarness:
    return FrontDoorHarness()


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(PARTS, max_size=10), cuts=st.lists(st.integers(0, 2000), max_size=8))
def test_split_anywhere_the_decisions_are_the_same(
    harness: FrontDoorHarness, parts: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(parts)
    ends = sorted({cut % (len(data) + 1) for cut in cuts})
    pieces = [data[a:b] for a, b in itertools.pairwise([0, *ends, len(data)])]
    whole = asyncio.run(harness.decide([data]))
    assert asyncio.run(harness.decide([piece for piece in pieces if piece])) == whole


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(PARTS, max_size=5))
def test_byte_by_byte_too(harness: FrontDoorHarness, parts: list[bytes]) -> None:
    data = b"".join(parts)[:1500]
    whole = asyncio.run(harness.decide([data]))
    assert asyncio.run(harness.decide([bytes((byte,)) for byte in data])) == whole


def test_the_harness_sees_what_is_decided(harness: FrontDoorHarness) -> None:
    good, _, chunked, upgrade = PIECES[:4]
    seen = asyncio.run(harness.decide([chunked]))
    assert [request[4] for request in seen.requests] == [b"hello"]
    assert (seen.statuses, seen.upgrade) == ([b"200"], None)
    seen = asyncio.run(harness.decide([upgrade + b"frames"]))
    assert seen.upgrade is not None
    assert (seen.upgrade[1], seen.upgrade[-1]) == ("/ws", b"frames")
    # An upgrade in one piece, in two, and behind another request.
    cut = asyncio.run(harness.decide([upgrade[:9], upgrade[9:] + b"frames"]))
    assert cut == seen
    behind = asyncio.run(harness.decide([good + upgrade + b"frames"]))
    assert (behind.upgrade, behind.statuses, behind.is_closed) == (None, [], True)
    assert asyncio.run(harness.decide([good[:-2] + b"Host: y\r\n\r\n"])).statuses == [b"400"]
    assert asyncio.run(harness.decide([good[:-2] + b"A: b\r\n" * 100 + b"\r\n"])).statuses == [
        b"431"
    ]


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("1.1", [(b"host", b"x")]),
        ("1.0", []),
        ("1.1", [(b"host", b"")]),
        ("1.1", [(b"host", b"agents.example.com:8080 ")]),
        ("1.1", [(b"host", b"my_service.default.svc")]),
        ("1.1", [(b"host", b"127.0.0.1:80")]),
        ("1.1", [(b"host", b"[::1]:8080")]),
        ("1.1", [(b"host", b"[fe80::1%25eth0]")]),
        ("1.1", [(b"host", b"x"), (b"transfer-encoding", b" Chunked\t")]),
    ],
)
def test_heads_that_are_fine(version: str, headers: list[tuple[bytes, bytes]]) -> None:
    check_head(version, headers)


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("1.1", []),
        *(("1.1", [(b"host", host)]) for host in (
            b"x y", b"x/y", b"x?y", b"x#y", b"x@y", b"x\\y", b"x:y", b"x:80:80", b"[::1", b"::1",
            b"[::1]x", b"\xc3\xa4", b"x\0",
        )),
        ("0.9", [(b"host", b"x")]),
        ("1.0", [(b"host", b"x"), (b"host", b"x")]),
        ("1.0", [(b"transfer-encoding", b"chunked")]),
        ("1.1", [(b"host", b"x"), (b"transfer-encoding", b"chunked, chunked")]),
        ("1.1", [(b"host", b"x"), (b"transfer-encoding", b"")]),
        ("1.1", [(b"host", b"x"), (b"authorization", b"a"), (b"authorization", b"a")]),
        ("1.1", [(b"host", b"x"), (b"origin", b"http://a"), (b"origin", b"http://b")]),
        ("1.1", [(b"host", b"x"), *[(b"x-ms-user-identity", b"u")] * 2]),
        ("1.1", [(b"host", b"x"), *[(b"x-ms-user-isolation-key", b"u")] * 2]),
    ],
)  # fmt: skip
def test_heads_that_are_not(version: str, headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(InvalidRequestError):
        check_head(version, headers)
