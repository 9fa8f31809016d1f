"""Writes a conversation down as it happens."""

import datetime as dt
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from trunkline.recordings.format import FINAL, FROM_AGENT, MARK, encode_head, encode_varint

#: What a recorder that is killed loses at the most.
FLUSH_EVERY_US = 1_000_000
_AGENTS_FINAL = FROM_AGENT | FINAL


class Recorder:
    """Takes every frame of a conversation, over all its connections, and writes it to a file.

    It is a ``FrameTap`` of the client. What it writes is buffered, and flushed once a second; the
    file is the caller's to close.
    """

    def __init__(
        self,
        file: BinaryIO,
        about: Mapping[str, Any],
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        """Begin a recording.

        Args:
            file: Where to, open for writing bytes.
            about: What to say of it in the header, such as the agent's name. No secrets.
            clock_ns: What the time is.
            now: The time of day it began.
        """
        self._file = file
        self._clock_ns = clock_ns
        self._start_ns = 0
        self._last_us = 0
        self._flushed_us = 0
        self._is_started = False
        self.frames = 0
        started = now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        file.write(encode_head({**about, "started_at": started}))

    def opened(self, session_id: str) -> None:
        """Note that a connection is open; the first one is the recording's beginning."""
        self._mark({"event": "opened", "session_id": session_id})

    def sent(self, opcode: int, payload: bytes, *, is_final: bool) -> None:
        """Write a frame of the client's."""
        self.frames += 1
        self._put(opcode | FINAL if is_final else opcode, payload)

    def received(self, opcode: int, payload: bytes, *, is_final: bool) -> None:
        """Write a frame of the agent's."""
        self.frames += 1
        self._put(opcode | _AGENTS_FINAL if is_final else opcode | FROM_AGENT, payload)

    def lost(self, code: int, reason: str) -> None:
        """Note that a connection is over."""
        self._mark({"event": "lost", "code": code, "reason": reason})
        self._file.flush()

    def _mark(self, said: Mapping[str, Any]) -> None:
        text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
        self._put(MARK | FINAL, text.encode())

    def _put(self, kind: int, payload: bytes) -> None:
        # Called for every frame of a call: no objects are made for it but the bytes.
        at_us = (self._clock_ns() - self._start_ns) // 1000
        if not self._is_started:
            self._start_ns += at_us * 1000
            self._is_started, at_us = True, 0
        # The difference of rounded times, so that rounding doesn't add up.
        delta_us, self._last_us = at_us - self._last_us, at_us
        size = len(payload)
        if 0x80 <= delta_us < 0x4000 and 0x80 <= size < 0x4000:
            # What nearly every frame of a call is: two bytes each.
            head = bytes(
                (kind, delta_us & 0x7F | 0x80, delta_us >> 7, size & 0x7F | 0x80, size >> 7)
            )
        else:
            head = bytes((kind,)) + encode_varint(delta_us) + encode_varint(size)
        self._file.write(head + payload)
        if at_us - self._flushed_us >= FLUSH_EVERY_US:
            self._flushed_us = at_us
            self._file.flush()
