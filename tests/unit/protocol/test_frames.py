"""The scanner sees the same frames however the bytes are cut."""

import itertools

import pytest
from hypothesis import given, strategies as st

from trunkline.protocol.close import CloseCode, CloseInfo, encode_close
from trunkline.protocol.frames import FrameScanner

LIMIT = 1024
MASK = b"\x01\x02\x03\x04"


def frame(payload: bytes, *, opcode: int = 2, mask: bytes | None = None, fin: bool = True) -> bytes:
    first = (0x80 if fin else 0) | opcode
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head = bytes((first, bit | len(payload)))
    elif len(payload) < 65536:
        head = bytes((first, bit | 126)) + len(payload).to_bytes(2)
    else:
        head = bytes((first, bit | 127)) + len(payload).to_bytes(8)
    if mask:
        payload = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
        head += mask
    return head + payload


def announced(length: int, *, opcode: int = 2) -> bytes:
    """The header of a frame whose payload never comes."""
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8)


def feed(scanner: FrameScanner, data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [scanner.feed(data[a:b]) for a, b in itertools.pairwise(edges)]


payloads = st.lists(
    st.tuples(st.binary(max_size=300) | st.just(bytes(LIMIT)), st.booleans()), max_size=6
)
cuts = st.lists(st.integers(0, 10**6), max_size=12)


@given(payloads, cuts)
def test_frames_pass_untouched_wherever_the_reads_end(
    sent: list[tuple[bytes, bool]], edges: list[int]
) -> None:
    data = b"".join(frame(p, mask=MASK if masked else None) for p, masked in sent)
    scanner = FrameScanner(LIMIT)
    assert b"".join(feed(scanner, data, edges)) == data
    assert scanner.frames == len(sent)
    assert scanner.is_between_frames
    assert scanner.close is None
    assert not scanner.oversize_bytes


@given(payloads, cuts, st.integers(LIMIT + 1, 2**63 - 1))
def test_an_oversize_frame_is_stopped_before_its_header(
    sent: list[tuple[bytes, bool]], edges: list[int], length: int
) -> None:
    before = b"".join(frame(p, mask=MASK if masked else None) for p, masked in sent)
    scanner = FrameScanner(LIMIT)
    out = b"".join(feed(scanner, before + announced(length) + b"payload", edges))
    assert out == before
    assert scanner.oversize_bytes == length
    assert scanner.is_between_frames
    assert scanner.frames == len(sent)


def test_the_limit_itself_passes() -> None:
    scanner = FrameScanner(LIMIT)
    data = frame(bytes(LIMIT))
    assert scanner.feed(data) == data
    assert scanner.oversize_bytes == 0


@given(st.binary(min_size=1, max_size=300), st.integers(0, 310), cuts)
def test_stopping_lets_the_frame_under_way_end(payload: bytes, at: int, edges: list[int]) -> None:
    first, second = frame(payload, mask=MASK), frame(b"later", mask=MASK)
    at = min(at, len(first))
    scanner = FrameScanner(LIMIT)
    out = scanner.feed(first[:at])
    was_under_way = not scanner.is_between_frames
    scanner.stop()
    out += b"".join(feed(scanner, first[at:] + second, edges))
    assert out == (first if was_under_way or at == len(first) else b"")
    assert scanner.is_between_frames


@given(st.booleans(), st.text(max_size=30), cuts)
def test_a_close_frame_is_read(masked: bool, reason: str, edges: list[int]) -> None:
    data = encode_close(4321, reason, mask=MASK if masked else None)
    scanner = FrameScanner(LIMIT)
    assert b"".join(feed(scanner, data, edges)) == data
    assert scanner.close == CloseInfo(4321, reason)


@pytest.mark.parametrize("mask", [None, MASK])
def test_an_empty_close_frame_has_no_status(mask: bytes | None) -> None:
    scanner = FrameScanner(LIMIT)
    scanner.feed(frame(b"", opcode=8, mask=mask))
    assert scanner.close == CloseInfo(CloseCode.NO_STATUS, "")


def test_a_close_frame_is_seen_behind_a_stop_and_behind_an_oversize_frame() -> None:
    stopped = FrameScanner(LIMIT)
    stopped.stop()
    assert stopped.feed(frame(b"x") + encode_close(1000, mask=MASK)) == b""
    assert stopped.close == CloseInfo(1000, "")
    assert stopped.frames == 0

    over = FrameScanner(LIMIT)
    assert over.feed(frame(bytes(LIMIT + 1)) + encode_close(1009, mask=MASK)) == b""
    assert over.close == CloseInfo(1009, "")


def test_a_lone_header_byte_waits() -> None:
    scanner = FrameScanner(LIMIT)
    assert scanner.feed(b"\x82") == b""
    assert scanner.is_between_frames
    assert scanner.feed(b"\x01a") == b"\x82\x01a"


def test_an_overlong_close_frame_is_left_to_the_agent_to_refuse() -> None:
    scanner = FrameScanner(LIMIT)
    data = frame(bytes(200), opcode=8)
    assert scanner.feed(data) == data
    assert scanner.close is None


@given(payloads, cuts, cuts)
def test_another_scanner_goes_on_where_one_stopped(
    sent: list[tuple[bytes, bool]], edges: list[int], moves: list[int]
) -> None:
    data = b"".join(frame(p, mask=MASK if masked else None) for p, masked in sent)
    scanner, out = FrameScanner(LIMIT), b""
    ends = [0, *sorted(move % (len(data) + 1) for move in moves), len(data)]
    for begin, end in itertools.pairwise(ends):
        out += b"".join(feed(scanner, data[begin:end], edges))
        assert not scanner.is_special
        after = FrameScanner(LIMIT)
        after.skip(scanner.frames, scanner.left)
        out += after.feed(scanner.take_rest())
        scanner = after
    assert out == data
    assert scanner.frames == len(sent)
