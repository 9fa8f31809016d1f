"""The client's frames, checked by another library's, and cut up anywhere."""

import pytest
from hypothesis import given, strategies as st
from websockets.frames import Frame as ForeignFrame, Opcode as ForeignOpcode
from websockets.streams import StreamReader

from trunkline.testing._frames import BrokenFrameError, Frame, FrameReader, Opcode, client_frame

SIZES = [0, 1, 3, 125, 126, 127, 65535, 65536, 70001]


def foreign_parse(data: bytes) -> ForeignFrame:
    reader = StreamReader()
    reader.feed_data(data)
    parsing = ForeignFrame.parse(reader.read_exact, mask=True)
    try:
        while True:
            next(parsing)
    except StopIteration as done:
        return done.value


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_another_library_reads_what_the_client_sends(opcode: Opcode, size: int):
    payload = bytes(number % 251 for number in range(size))
    frame = foreign_parse(client_frame(opcode, payload))
    assert (frame.opcode, frame.data, frame.fin) == (opcode, payload, True)


def test_two_frames_do_not_have_the_same_mask():
    assert client_frame(Opcode.TEXT, b"hello") != client_frame(Opcode.TEXT, b"hello")


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 9, 10]), st.binary(max_size=300)), max_size=5),
    st.data(),
)
def test_frames_are_found_wherever_they_were_cut(frames, data):
    stream = b"".join(
        ForeignFrame(ForeignOpcode(opcode), payload[: 125 if opcode > 8 else None]).serialize(
            mask=False
        )
        for opcode, payload in frames
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader = FrameReader()
    found: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert [(frame.opcode, frame.payload) for frame in found] == [
        (opcode, payload[: 125 if opcode > 8 else None]) for opcode, payload in frames
    ]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xc1\x00", "reserved bit"),
        (b"\x81\x80aaaa", "masked"),
        (b"\x83\x00", "no opcode 3"),
    ],
)
def test_a_server_that_breaks_the_protocol_is_found_out(data: bytes, why: str):
    with pytest.raises(BrokenFrameError, match=why):
        list(FrameReader().feed(data))
