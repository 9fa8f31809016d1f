"""Writes a conversation down as it happens."""

import datetime as dt
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from trunkline.recordings.format import (
    FINAL,
    FROM_AGENT,
    MARK,
    encode_head,
    encode_head_of_record,
)

#: What a recorder that is killed loses at the most, in time and in bytes.
FLUSH_EVERY_NS = 1_000_000_000
MAX_PENDING_BYTES = 256 * 1024
_OWN, _AGENTS = FINAL, FINAL | FROM_AGENT


class Recorder:
    """Takes every frame of a conversation, over all its connections, and writes it to a file.

    It is a ``FrameTap`` of the client. A frame costs the call little: it is kept with its time, and
    once a second all that were kept are put into the file's form and written. The file is the
    caller's to close.
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
        self._pending: list[tuple[int, int, bytes]] = []
        self._room_bytes = MAX_PENDING_BYTES
        self._flush_at_ns = 0
        self._start_ns: int | None = None
        self._last_us = 0
        self._written = 0
        self._marks = 0
        started = now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        file.write(encode_head({**about, "started_at": started}))

    @property
    def frames(self) -> int:
        """How many frames were recorded."""
        return self._written + len(self._pending) - self._marks

    def opened(self, session_id: str) -> None:
        """Note that a connection is open; the first one is the recording's beginning."""
        self._mark({"event": "opened", "session_id": session_id})

    def sent(self, opcode: int, payload: bytes, *, is_final: bool) -> None:
        """Write a frame of the client's."""
        # The same lines as in `received` and `_mark`: a call is a good part of what a frame costs.
        now_ns = self._clock_ns()
        self._pending.append((opcode | _OWN if is_final else opcode, now_ns, payload))
        self._room_bytes -= len(payload)
        if now_ns >= self._flush_at_ns or self._room_bytes <= 0:
            self.flush()

    def received(self, opcode: int, payload: bytes, *, is_final: bool) -> None:
        """Write a frame of the agent's."""
        now_ns = self._clock_ns()
        kind = opcode | _AGENTS if is_final else opcode | FROM_AGENT
        self._pending.append((kind, now_ns, payload))
        self._room_bytes -= len(payload)
        if now_ns >= self._flush_at_ns or self._room_bytes <= 0:
            self.flush()

    def lost(self, code: int, reason: str) -> None:
        """Note that a connection is over."""
        self._mark({"event": "lost", "code": code, "reason": reason})

    def flush(self) -> None:
        """Write what is still kept."""
        if not self._pending:
            return
        if self._start_ns is None:
            self._start_ns = self._pending[0][1]
        start_ns, last_us = self._start_ns, self._last_us
        parts: list[bytes] = []
        for kind, at_ns, payload in self._pending:
            at_us = (at_ns - start_ns) // 1000
            # The difference of rounded times, so that rounding doesn't add up.
            parts += (encode_head_of_record(kind, at_us - last_us, len(payload)), payload)
            last_us = at_us
        self._last_us = last_us
        self._written += len(self._pending)
        self._pending.clear()
        self._room_bytes = MAX_PENDING_BYTES
        self._flush_at_ns = self._clock_ns() + FLUSH_EVERY_NS
        self._file.write(b"".join(parts))
        self._file.flush()

    def _mark(self, said: Mapping[str, Any]) -> None:
        text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
        self._marks += 1
        self._pending.append((MARK | FINAL, self._clock_ns(), text.encode()))
        self.flush()
