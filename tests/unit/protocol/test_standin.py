"""Who stands in for an agent answers signs of life, and nothing else."""

from hypothesis import given, strategies as st

from trunkline.protocol.frames import FrameScanner
from trunkline.protocol.standin import MAX_PONGS, StandIn

MASK = b"\x0a\x0b\x0c\x0d"


def frame(first: int, payload: bytes = b"", *, mask: bytes | None = MASK) -> bytes:
    assert len(payload) < 126
    if mask is None:
        return bytes((first, len(payload))) + payload
    masked = bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))
    return bytes((first, 0x80 | len(payload))) + mask + masked


def feed(data: bytes, edges: list[int]) -> tuple[StandIn, bytes, bytes, int, int]:
    """Feed bytes in parts; return what was answered and passed on, and how much was taken."""
    stand_in = StandIn()
    answers, passed_on, frames, size = b"", b"", 0, 0
    at = 0
    for edge in [*sorted(edge % (len(data) + 1) for edge in edges), len(data)]:
        if stand_in.is_agent_needed:
            break
        done = stand_in.receive_data(data[at:edge])
        at = edge
        answers += done.answers
        passed_on += done.passed_on
        frames += done.frames
        size += done.size
    # Nothing is lost: what wasn't taken is at hand.
    assert data[size:at] == stand_in.rest
    return stand_in, answers, passed_on, frames, size


signs = st.lists(st.tuples(st.sampled_from((0x89, 0x8A)), st.binary(max_size=125)), max_size=6)
cuts = st.lists(st.integers(0, 10**4), max_size=8)


@given(signs, cuts)
def test_pings_are_answered_and_pongs_kept_for_the_agent(
    sent: list[tuple[int, bytes]], edges: list[int]
) -> None:
    data = b"".join(frame(first, payload) for first, payload in sent)
    stand_in, answers, passed_on, frames, size = feed(data, edges)
    assert not stand_in.is_agent_needed
    assert (frames, size) == (len(sent), len(data))
    assert answers == b"".join(frame(0x8A, p, mask=None) for first, p in sent if first == 0x89)
    assert passed_on == b"".join(frame(0x8A, p) for first, p in sent if first == 0x8A)


others = st.sampled_from(
    [
        frame(0x81, b"text"),
        frame(0x82),
        frame(0x01, b"a fragment"),
        frame(0x80, b"the rest"),
        frame(0x88, b"\x03\xe8"),
        frame(0x09, b"a ping in fragments"),
        frame(0xC9, b"a ping with a reserved bit"),
        frame(0x89, b"not masked", mask=None),
        bytes((0x89, 0x80 | 126)) + b"\0\x80" + MASK,
    ]
)


@given(signs, others, st.binary(max_size=40), cuts)
def test_anything_else_is_the_agents(
    sent: list[tuple[int, bytes]], other: bytes, more: bytes, edges: list[int]
) -> None:
    before = b"".join(frame(first, payload) for first, payload in sent)
    stand_in, _, _, frames, size = feed(before + other + more, edges)
    assert stand_in.is_agent_needed
    assert (frames, size) == (len(sent), len(before))


@given(signs)
def test_they_are_counted_as_the_scanner_counts_them(sent: list[tuple[int, bytes]]) -> None:
    data = b"".join(frame(first, payload) for first, payload in sent)
    scanner = FrameScanner(1024)
    scanner.feed(data)
    assert feed(data, [])[3] == scanner.frames == scanner.controls


def test_pongs_that_answer_nothing_do_not_pile_up() -> None:
    stand_in = StandIn()
    kept = sum(len(stand_in.receive_data(frame(0x8A)).passed_on) for _ in range(1000))
    assert kept == MAX_PONGS * len(frame(0x8A))
    assert not stand_in.is_agent_needed
