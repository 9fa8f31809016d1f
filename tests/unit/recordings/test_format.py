"""The recording's file."""

import contextlib
import io
import json

import pytest
from hypothesis import given, strategies as st

from trunkline.protocol.close import CloseInfo
from trunkline.recordings.format import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MAGIC,
    MARK,
    PING,
    TEXT,
    Record,
    RecordingError,
    TimedMessage,
    decode,
    encode_head,
    encode_record,
    encode_varint,
)
from trunkline.recordings.recorder import FLUSH_EVERY_NS, MAX_PENDING_BYTES, Recorder

RECORDS = st.builds(
    Record,
    at_us=st.integers(0, 10**12),
    from_agent=st.booleans(),
    opcode=st.sampled_from([CONTINUATION, TEXT, BINARY, CLOSE, PING]),
    payload=st.binary(max_size=300),
    is_final=st.booleans(),
)


def written(records: list[Record]) -> bytes:
    data, last = encode_head({"agent": "ä"}), 0
    for record in records:
        data += encode_record(record.at_us - last, record)
        last = record.at_us
    return data


@given(st.lists(RECORDS, max_size=20))
def test_what_is_written_is_read(records: list[Record]) -> None:
    records.sort(key=lambda record: record.at_us)
    recording = decode(written(records))
    assert recording.header == {"agent": "ä"}
    assert list(recording.records) == records
    assert recording.is_whole


@given(st.lists(RECORDS, min_size=1, max_size=5), st.data())
def test_a_file_that_ends_early_is_read_up_to_there(
    records: list[Record], data: st.DataObject
) -> None:
    records.sort(key=lambda record: record.at_us)
    whole = written(records)
    head = len(encode_head({"agent": "ä"}))
    cut = data.draw(st.integers(head, len(whole)))
    recording = decode(whole[:cut])
    assert list(recording.records) == records[: len(recording.records)]
    assert recording.is_whole == (written(records[: len(recording.records)]) == whole[:cut])


@given(st.binary(max_size=200))
def test_anything_else_is_an_error_or_a_recording(data: bytes) -> None:
    for start in (b"", MAGIC + b"\x01\n", written([])):
        with contextlib.suppress(RecordingError):
            decode(start + data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "isn't a recording"),
        (b"RIFF....WAVE", "isn't a recording"),
        (MAGIC + b"\x02\n\x02{}", "version 2"),
        (MAGIC + b"\x01\n\x10{}", "ends within its header"),
        (MAGIC + b"\x01\n\x02[]", "damaged header"),
        (MAGIC + b"\x01\n\x02{}\x13\x00\x00", "damaged at byte 11"),
        (MAGIC + b"\x01\n\x02{}\x1f\x00\x01x", "damaged at byte 11"),
        (MAGIC + b"\x01\n\x02{}\x11" + b"\x80" * 20, "damaged"),
        (MAGIC + b"\x01\n\x02{}\x11\x00\xff\xff\xff\xff\x7f", "damaged"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(data: bytes, said: str) -> None:
    with pytest.raises(RecordingError, match=said):
        decode(data)


@given(st.integers(0, 2**62))
def test_varints(number: int) -> None:
    data = encode_varint(number)
    assert all(byte & 0x80 for byte in data[:-1])
    assert sum((byte & 0x7F) << (7 * at) for at, byte in enumerate(data)) == number


class Clock:
    def __init__(self) -> None:
        self.ns = 5_000_000_000

    def __call__(self) -> int:
        return self.ns

    def forward_us(self, us: int) -> None:
        self.ns += us * 1000


class File(io.BytesIO):
    flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        super().flush()


def test_a_recorder_writes_every_frame_with_its_time() -> None:
    clock, file = Clock(), File()
    recorder = Recorder(file, {"agent": "echo"}, clock_ns=clock)
    recorder.opened("s-1")
    clock.forward_us(1500)
    recorder.sent(TEXT, b"hello", is_final=True)
    clock.forward_us(500)
    recorder.received(BINARY, b"\x01", is_final=False)
    clock.forward_us(1)
    recorder.received(PING, b"", is_final=True)
    recorder.received(CONTINUATION, b"\x02", is_final=True)
    clock.forward_us(FLUSH_EVERY_NS // 1000)
    recorder.sent(CLOSE, b"\x03\xe8", is_final=True)
    # At once for the first, and a second later.
    assert file.flushes == 2
    recorder.lost(1000, "")
    assert file.flushes == 3

    recording = decode(file.getvalue())
    assert recording.header["agent"] == "echo"
    assert recording.header["started_at"].endswith("Z")
    assert [record.at_us for record in recording.records] == [
        0, 1500, 2000, 2001, 2001, 1_002_001, 1_002_001,
    ]  # fmt: skip
    assert recording.records[0].mark == {"event": "opened", "session_id": "s-1"}
    assert recording.messages(from_agent=False) == (TimedMessage(0.0015, "hello"),)
    assert recording.messages(from_agent=True) == (TimedMessage(0.002001, b"\x01\x02"),)
    assert recording.close == CloseInfo(1000, "")
    assert recording.is_closed_by_client
    assert recorder.frames == 5
    assert recording.duration_s == pytest.approx(1.002001)


def test_rounding_does_not_add_up() -> None:
    clock, file = Clock(), io.BytesIO()
    recorder = Recorder(file, {}, clock_ns=clock)
    recorder.opened("s")
    for _ in range(1000):
        clock.ns += 1999
        recorder.sent(TEXT, b"x", is_final=True)
    recorder.flush()
    assert decode(file.getvalue()).records[-1].at_us == 1999


def test_who_closed() -> None:
    def mark(**said: object) -> Record:
        return Record(0, False, MARK, json.dumps(said).encode())

    opened, lost = mark(event="opened"), mark(event="lost", code=1001, reason="drain")
    ours, theirs = Record(0, False, CLOSE, b""), Record(0, True, CLOSE, b"")
    agents = decode(written([opened, theirs, ours, lost]))
    assert not agents.is_closed_by_client
    assert agents.close == CloseInfo(1001, "drain")
    assert decode(written([opened, theirs, lost, opened, ours, theirs, lost])).is_closed_by_client
    assert not decode(written([opened, ours, theirs, lost, opened])).is_closed_by_client
    assert decode(written([opened])).close is None


def test_what_a_recorder_keeps_is_bounded() -> None:
    clock, file = Clock(), File()
    recorder = Recorder(file, {}, clock_ns=clock)
    recorder.opened("s")
    recorder.received(BINARY, bytes(MAX_PENDING_BYTES - 1), is_final=True)
    assert file.flushes == 1
    recorder.received(BINARY, b"x", is_final=True)
    assert file.flushes == 2


@pytest.mark.parametrize("size", [0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, 100_000])
@pytest.mark.parametrize("gap_us", [0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, 10_000_000])
def test_every_size_of_a_record(size: int, gap_us: int) -> None:
    records = [Record(gap_us, True, BINARY, bytes(size), False)]
    assert list(decode(written(records)).records) == records
