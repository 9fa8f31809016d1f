"""The recording's file: what stands in it, and how it is written and read.

The page ``docs/reference/recordings.md`` describes it for other programs.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trunkline.protocol.close import CloseInfo
from trunkline.protocol.errors import TrunklineError

MAGIC = b"TRKREC"
VERSION = 1
#: Far above every platform's frame limit; a length beyond it is a damaged file.
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
_MAX_HEADER_BYTES = 1024 * 1024
_MAX_VARINT_BYTES = 9
_pack_five = struct.Struct("5B").pack

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
#: Not a frame: what happened to the connection, as JSON.
MARK = 0xF
#: The parts of a record's kind.
OPCODE, FINAL, FROM_AGENT = 0x0F, 0x10, 0x80
_KNOWN = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG, MARK})

Message = str | bytes


class RecordingError(TrunklineError):
    """A file that isn't a recording, or a damaged one."""

    code = "bad_recording"
    status = 400


@dataclass(frozen=True, slots=True)
class Record:
    """One frame, or a mark."""

    at_us: int
    """Microseconds since the first connection was open."""
    from_agent: bool
    opcode: int
    payload: bytes
    is_final: bool = True

    @property
    def mark(self) -> Mapping[str, Any]:
        """What a mark says."""
        document = json.loads(self.payload)
        return document if isinstance(document, dict) else {}


@dataclass(frozen=True, slots=True)
class TimedMessage:
    """A whole message, at the time its last frame was there."""

    at_s: float
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A recorded conversation."""

    header: Mapping[str, Any]
    records: tuple[Record, ...]
    is_whole: bool = True
    """Whether the last record is complete: it isn't if the recorder was killed."""
    _joined: dict[bool, tuple[TimedMessage, ...]] = field(default_factory=dict, repr=False)

    def messages(self, *, from_agent: bool) -> tuple[TimedMessage, ...]:
        """Return the text and binary messages of one side, in order."""
        if from_agent not in self._joined:
            own = (record for record in self.records if record.from_agent is from_agent)
            self._joined[from_agent] = tuple(_join(own))
        return self._joined[from_agent]

    @property
    def duration_s(self) -> float:
        """From the first connection's opening to the last record."""
        return self.records[-1].at_us / 1e6 if self.records else 0.0

    @property
    def close(self) -> CloseInfo | None:
        """How the conversation was closed; None if the recording ends before."""
        for record in reversed(self.records):
            if record.opcode == MARK and record.mark.get("event") == "lost":
                said = record.mark
                return CloseInfo(int(said.get("code", 1006)), str(said.get("reason", "")))
        return None

    @property
    def is_closed_by_client(self) -> bool:
        """Whether the close frame that came first on the last connection was the client's."""
        first: Record | None = None
        for record in self.records:
            if record.opcode == MARK and record.mark.get("event") == "opened":
                first = None
            elif record.opcode == CLOSE and first is None:
                first = record
        return first is not None and not first.from_agent


def _join(records: Iterator[Record]) -> Iterator[TimedMessage]:
    parts: list[bytes] = []
    kind = TEXT
    for record in records:
        if record.opcode in (TEXT, BINARY):
            parts, kind = [record.payload], record.opcode
        elif record.opcode == CONTINUATION:
            parts.append(record.payload)
        else:
            continue
        if record.is_final:
            whole = b"".join(parts)
            message = whole.decode(errors="replace") if kind == TEXT else whole
            yield TimedMessage(record.at_us / 1e6, message)


def encode_head(header: Mapping[str, Any]) -> bytes:
    """Return what a file begins with."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return MAGIC + bytes((VERSION,)) + b"\n" + encode_varint(len(text)) + text


def encode_record(delta_us: int, record: Record) -> bytes:
    """Return one record; ``delta_us`` is the time since the one before."""
    kind = record.opcode | (FINAL if record.is_final else 0)
    kind |= FROM_AGENT if record.from_agent else 0
    return encode_head_of_record(kind, delta_us, len(record.payload)) + record.payload


def encode_head_of_record(kind: int, delta_us: int, size: int) -> bytes:
    """Return what stands before a record's payload."""
    if 0x80 <= delta_us < 0x4000 and 0x80 <= size < 0x4000:
        # What nearly every frame of a call is: two bytes for each number.
        low_us, low = delta_us & 0x7F | 0x80, size & 0x7F | 0x80
        return _pack_five(kind, low_us, delta_us >> 7, low, size >> 7)
    return bytes((kind,)) + encode_varint(delta_us) + encode_varint(size)


def encode_varint(number: int) -> bytes:
    """Return a number in groups of seven bits, the lowest first (as LEB128)."""
    out = bytearray()
    while number > 0x7F:
        out.append(0x80 | (number & 0x7F))
        number >>= 7
    out.append(number)
    return bytes(out)


def read_recording(path: Path) -> Recording:
    """Read a file.

    Raises:
        RecordingError: If it isn't a recording, of a later version, or damaged. One that ends
            within a record is read up to there.
    """
    return decode(path.read_bytes(), str(path))


def decode(data: bytes, name: str = "the recording") -> Recording:
    """Read a recording's bytes; raises as :func:`read_recording` does."""
    reader = _Reader(data, name)
    header = reader.head()
    records: list[Record] = []
    at_us = 0
    while (record := reader.record(at_us)) is not None:
        records.append(record)
        at_us = record.at_us
    return Recording(header=header, records=tuple(records), is_whole=reader.at == len(data))


class _Reader:
    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._name = name
        self.at = 0

    def head(self) -> Mapping[str, Any]:
        start = len(MAGIC) + 2
        if self._data[: len(MAGIC)] != MAGIC or len(self._data) < start:
            raise RecordingError(
                f"{self._name} isn't a recording: `trunkline record FILE AGENT` makes one"
            )
        version = self._data[len(MAGIC)]
        if version != VERSION:
            raise RecordingError(
                f"{self._name} is a recording of version {version}, and this trunkline reads "
                f"version {VERSION}: use a newer one"
            )
        self.at = start
        size = self._varint()
        if size is None or size > _MAX_HEADER_BYTES or self.at + size > len(self._data):
            raise RecordingError(f"{self._name} ends within its header")
        text = self._data[self.at : self.at + size]
        try:
            header = json.loads(text)
        except ValueError:
            header = None
        if not isinstance(header, dict):
            raise RecordingError(f"{self._name} has a damaged header")
        self.at += size
        return header

    def record(self, before_us: int) -> Record | None:
        """Return the next record; None at the end, or where the file ends within one."""
        start = self.at
        if start >= len(self._data):
            return None
        kind = self._data[start]
        self.at += 1
        if kind & OPCODE not in _KNOWN:
            raise self._damaged(start)
        delta_us, size = self._varint(), self._varint()
        if size is not None and size > MAX_PAYLOAD_BYTES:
            raise self._damaged(start)
        if delta_us is None or size is None or self.at + size > len(self._data):
            self.at = start
            return None
        payload = self._data[self.at : self.at + size]
        self.at += size
        record = Record(
            before_us + delta_us,
            bool(kind & FROM_AGENT),
            kind & OPCODE,
            payload,
            bool(kind & FINAL),
        )
        if record.opcode == MARK and not _is_json(payload):
            raise self._damaged(start)
        return record

    def _varint(self) -> int | None:
        number = shift = 0
        start = self.at
        while self.at < len(self._data):
            byte = self._data[self.at]
            self.at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7
            if self.at - start >= _MAX_VARINT_BYTES:
                raise self._damaged(start)
        return None

    def _damaged(self, at: int) -> RecordingError:
        return RecordingError(f"{self._name} is damaged at byte {at}")


def _is_json(payload: bytes) -> bool:
    try:
        json.loads(payload)
    except ValueError:
        return False
    return True
