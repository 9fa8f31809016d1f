"""Where an agent's side of a conversation differs from a recorded one. No I/O."""

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from trunkline.protocol.close import CloseInfo
from trunkline.recordings.audio import AudioFormat, measure
from trunkline.recordings.format import Message, TimedMessage
from trunkline.recordings.paths import JsonPaths, canonical, differences

#: Beyond it, what differs is compared in order: aligning costs the square of the number.
MAX_ALIGNED = 1500

#: Takes the messages recorded and those received; yields a line for each difference.
Matcher = Callable[[Sequence[Message], Sequence[Message]], Iterable[str]]


class Kind(StrEnum):
    """What became of a message."""

    CHANGED = "changed"
    MISSING = "missing"
    EXTRA = "extra"
    AUDIO = "audio"
    CLOSE = "close"
    MATCHER = "matcher"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place where the agent's sides differ."""

    kind: Kind
    detail: tuple[str, ...] = ()
    index: int | None = None
    """The recorded message's place among the agent's, from 0; None if there is none."""
    recorded: TimedMessage | None = None
    received: TimedMessage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What counts as the same."""

    ignored: JsonPaths = field(default_factory=JsonPaths)
    """Places in JSON messages that may differ."""
    is_exact: bool = False
    """Whether JSON messages have to be the same text, to the space."""
    audio: AudioFormat | None = None
    """What binary messages hold, if they are to be compared as sound."""
    duration_tolerance: float = 0.1
    """By which part the sound may be longer or shorter."""
    level_tolerance_db: float = 3.0
    """By how much it may be louder or softer."""
    matcher: Matcher | None = None
    """Decides instead of all the above."""


def compare(
    recorded: Sequence[TimedMessage], received: Sequence[TimedMessage], rules: Rules
) -> list[Difference]:
    """Return where the agent's messages differ, in order."""
    if rules.matcher is not None:
        lines = rules.matcher([m.message for m in recorded], [m.message for m in received])
        return [Difference(kind=Kind.MATCHER, detail=(str(line),)) for line in lines]
    if rules.audio is None:
        return list(_compare_each(recorded, received, range(len(recorded)), rules))
    # Sound comes in pieces of any size, now before and now after a text: compared by itself.
    texts = [index for index, m in enumerate(recorded) if isinstance(m.message, str)]
    found = list(
        _compare_each(
            [recorded[index] for index in texts],
            [m for m in received if isinstance(m.message, str)],
            texts,
            rules,
        )
    )
    return [*found, *_compare_sound(recorded, received, rules.audio, rules)]


def compare_close(recorded: CloseInfo | None, received: CloseInfo) -> list[Difference]:
    """Return how the ends differ: the code, and the reason if there was one."""
    if recorded is None or recorded == received:
        return []
    if recorded.code == received.code and not recorded.reason:
        return []
    was, now = (f"{c.code} {c.reason}".rstrip() for c in (recorded, received))
    return [Difference(kind=Kind.CLOSE, detail=(f"closed with {now}: it was {was}",))]


def _compare_each(
    recorded: Sequence[TimedMessage],
    received: Sequence[TimedMessage],
    places: Sequence[int],
    rules: Rules,
) -> Iterator[Difference]:
    old = [_key(m.message, rules) for m in recorded]
    new = [_key(m.message, rules) for m in received]
    for tag, i1, i2, j1, j2 in _opcodes(old, new):
        if tag == "equal":
            continue
        both = min(i2 - i1, j2 - j1)
        for offset in range(both):
            i, j = i1 + offset, j1 + offset
            if old[i] == new[j]:
                continue
            yield Difference(
                kind=Kind.CHANGED,
                index=places[i],
                recorded=recorded[i],
                received=received[j],
                detail=tuple(_detail(recorded[i].message, received[j].message, rules)),
            )
        for i in range(i1 + both, i2):
            yield Difference(kind=Kind.MISSING, index=places[i], recorded=recorded[i])
        for j in range(j1 + both, j2):
            yield Difference(kind=Kind.EXTRA, received=received[j])


def _opcodes(old: Sequence[Any], new: Sequence[Any]) -> Iterator[tuple[str, int, int, int, int]]:
    # What is the same at both ends needs no alignment, and is mostly all there is.
    start, shortest = 0, min(len(old), len(new))
    while start < shortest and old[start] == new[start]:
        start += 1
    end = 0
    while end < shortest - start and old[-1 - end] == new[-1 - end]:
        end += 1
    inner_old, inner_new = old[start : len(old) - end], new[start : len(new) - end]
    if max(len(inner_old), len(inner_new)) > MAX_ALIGNED:
        yield "replace", start, len(old) - end, start, len(new) - end
        return
    matcher = difflib.SequenceMatcher(None, inner_old, inner_new, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        yield tag, i1 + start, i2 + start, j1 + start, j2 + start


def _key(message: Message, rules: Rules) -> tuple[str, Message]:
    if isinstance(message, bytes):
        return "binary", message
    document = None if rules.is_exact else _json_of(message)
    if document is None:
        return "text", message
    return "json", canonical(rules.ignored.pruned(document))


def _detail(old: Message, new: Message, rules: Rules) -> Iterator[str]:
    if isinstance(old, str) and isinstance(new, str):
        documents = (None, None) if rules.is_exact else (_json_of(old), _json_of(new))
        if None not in documents:
            yield from differences(*map(rules.ignored.pruned, documents))
    elif isinstance(old, bytes) and isinstance(new, bytes):
        first = next(
            (at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b),
            min(len(old), len(new)),
        )
        yield f"{len(new)} bytes, it had {len(old)}; the first that differs is byte {first}"
    else:
        yield "text became binary" if isinstance(old, str) else "binary became text"


def _json_of(text: str) -> Any:
    """Return an object or a list; None for anything else, which is compared as text."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict | list) else None


def _compare_sound(
    recorded: Sequence[TimedMessage],
    received: Sequence[TimedMessage],
    form: AudioFormat,
    rules: Rules,
) -> Iterator[Difference]:
    was, now = (
        measure((m.message for m in side if isinstance(m.message, bytes)), form)
        for side in (recorded, received)
    )
    if abs(now.duration_s - was.duration_s) > was.duration_s * rules.duration_tolerance:
        line = f"{now.duration_s:.2f} s of sound: it was {was.duration_s:.2f} s"
        yield Difference(kind=Kind.AUDIO, detail=(line,))
    elif abs(now.level_dbfs - was.level_dbfs) > rules.level_tolerance_db:
        line = f"the sound is at {now.level_dbfs:.1f} dBFS: it was at {was.level_dbfs:.1f}"
        yield Difference(kind=Kind.AUDIO, detail=(line,))
