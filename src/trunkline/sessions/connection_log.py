"""How a session's last connections ended: one JSON object a line, bounded, on disk."""

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_log = logging.getLogger("trunkline.sessions.log")
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_NEWER = "connections.jsonl"
_OLDER = "connections.1.jsonl"


class ConnectionLog:
    """The file of one session.

    There are two of them: when the newer one has half of what may be kept it becomes the older
    one. Nothing is kept open, and any process may write.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._newer = directory / _NEWER
        self._older = directory / _OLDER
        self._max_bytes = max_bytes

    def append(self, event: Mapping[str, Any]) -> None:
        """Keep one more; for a session that was deleted, nothing."""
        line = _ENCODER.encode(event).encode() + b"\n"
        try:
            descriptor = os.open(
                self._newer, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                os.write(descriptor, line)
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            if size > self._max_bytes // 2:
                self._newer.replace(self._older)
        except FileNotFoundError:
            return
        except OSError as exc:
            # A full disk must not end what still works; it is the operator's to hear of.
            _log.error("how a session's connection ended can't be kept: %s", exc)

    def last(self, most: int) -> list[dict[str, Any]]:
        """Return the last ones, the newest first."""
        lines: list[bytes] = []
        for path in (self._older, self._newer):
            with contextlib.suppress(FileNotFoundError):
                lines += path.read_bytes().splitlines()
        events: list[dict[str, Any]] = []
        for line in reversed(lines):
            if len(events) == most:
                break
            # What isn't whole (the disk was full, somebody edited it) is passed over.
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    events.append(event)
        return events
