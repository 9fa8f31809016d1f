"""One room: who speaks, who reads along, and what was said so far. No sockets, no model."""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MOST_LINES = 1_000
"""How many lines somebody who comes later gets to see, and how many outlive the process."""
MOST_WAITING = 200
"""How many events may wait for a reader who is slow before the reader is sent away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What was said in one breath; times are seconds since the speaker began."""

    id: int
    text: str
    begins_s: float
    ends_s: float


class Reader:
    """One connection's events, in their order, until it is too far behind."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[str] = asyncio.Queue(MOST_WAITING)
        self.is_too_slow = asyncio.Event()

    def tell(self, event: str) -> None:
        """Add an event without waiting for the reader."""
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            self.is_too_slow.set()

    async def next(self) -> str:
        """Return the next event; cancelling loses none."""
        return await self._waiting.get()


class Room:
    """Everything that connections of one session share.

    Whoever asks to speak while nobody has spoken yet becomes the speaker, and gets a key to come
    back with. Everybody else reads: what they send is refused, and they can't become the speaker
    without the key, also not while the speaker is away.
    """

    def __init__(self, file: Path) -> None:
        """Read what was said before this process was started."""
        self._file = file
        self._lines: deque[Line] = deque(_read(file), MOST_LINES)
        self._readers: set[Reader] = set()
        self._key = _key_in(file.with_suffix(".key"))
        self._has_speaker = False

    @property
    def last_id(self) -> int:
        """The id of the last line; 0 if there is none."""
        return self._lines[-1].id if self._lines else 0

    def take_place(self, key: str | None) -> str | None:
        """Become the speaker, if that may be: return the key, else None."""
        if self._has_speaker:
            return None
        if self._key is None:
            self._key = secrets.token_urlsafe(16)
            self._file.with_suffix(".key").write_text(self._key)
        elif not secrets.compare_digest(self._key, key or ""):
            return None
        self._has_speaker = True
        self._tell("speaker", present=True)
        return self._key

    def leave_place(self) -> None:
        """The speaker is gone."""
        self._has_speaker = False
        self._tell("speaker", present=False)

    def enter(self, reader: Reader, **greeting: Any) -> None:
        """Greet somebody with what was said so far; from now on they read along."""
        recent = list(self._lines)[-(MOST_WAITING - 20) :]
        reader.tell(event("session_started", **greeting, lines=len(self._lines)))
        for line in recent:
            reader.tell(event("final", **asdict(line)))
        self._readers.add(reader)
        self._tell("readers", count=len(self._readers))

    def leave(self, reader: Reader) -> None:
        """Somebody is gone."""
        self._readers.discard(reader)
        self._tell("readers", count=len(self._readers))

    def hear(self, line: Line, *, is_final: bool) -> None:
        """Tell everybody what is being said; keep it once it is said."""
        if is_final:
            self._lines.append(line)
            with self._file.open("a") as file:
                file.write(json.dumps(asdict(line)) + "\n")
        self._tell("final" if is_final else "partial", **asdict(line))

    def _tell(self, kind: str, **fields: Any) -> None:
        told = event(kind, **fields)
        for reader in self._readers:
            reader.tell(told)


def event(kind: str, **fields: Any) -> str:
    """Return one event as its text message."""
    return json.dumps({"type": kind, **fields}, ensure_ascii=False)


def _read(file: Path) -> list[Line]:
    lines = []
    try:
        text = file.read_text()
    except FileNotFoundError:
        return []
    for written in text.splitlines()[-MOST_LINES:]:
        try:
            known: Mapping[str, Any] = json.loads(written)
            lines.append(Line(**known))
        except (ValueError, TypeError):
            # The process was killed while it wrote: what is whole counts.
            continue
    return lines


def _key_in(file: Path) -> str | None:
    try:
        return file.read_text() or None
    except FileNotFoundError:
        return None
