"""A replay's outcome as JUnit XML, which every CI shows."""

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from trunkline.recordings.compare import Difference, Kind
from trunkline.recordings.format import TimedMessage

# What XML 1.0 has no way to write.
_UNWRITABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_of(
    name: str,
    recorded: Sequence[TimedMessage],
    differences: Sequence[Difference],
    duration_s: float,
) -> str:
    """Return the document: a test case for each of the agent's recorded messages, and the rest.

    Args:
        name: The recording's name.
        recorded: The agent's messages in the recording.
        differences: What :func:`trunkline.recordings.compare.compare` found.
        duration_s: How long it took.
    """
    by_index = {d.index: d for d in differences if d.index is not None}
    cases = [
        _case(name, f"message {index + 1}", by_index.get(index)) for index in range(len(recorded))
    ]
    extra = [d for d in differences if d.kind is Kind.EXTRA]
    cases.append(_case(name, "no further messages", extra[0] if extra else None, len(extra)))
    close = [d for d in differences if d.kind is Kind.CLOSE]
    cases.append(_case(name, "close code", close[0] if close else None))
    for kind in (Kind.AUDIO, Kind.MATCHER):
        cases += [_case(name, str(kind), found) for found in differences if found.kind is kind]
    failures = sum("<failure" in case for case in cases)
    head = (
        f'<testsuite name={_attribute(name)} tests="{len(cases)}" failures="{failures}" '
        f'errors="0" skipped="0" time="{duration_s:.3f}">'
    )
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>", head, *cases]
    return "\n".join([*lines, "</testsuite>", "</testsuites>", ""])


def _case(suite: str, name: str, found: Difference | None, count: int = 1) -> str:
    head = f"<testcase classname={_attribute(suite)} name={_attribute(name)}"
    if found is None:
        return f"{head}/>"
    said = str(found.kind) if count == 1 else f"{count} {found.kind}"
    lines = list(found.detail)
    for label, side in (("recorded", found.recorded), ("received", found.received)):
        if side is not None:
            lines.append(f"{label}: {shown(side)}")
    body = escape(_writable("\n".join(lines)))
    return f"{head}><failure message={_attribute(said)}>{body}</failure></testcase>"


def shown(timed: TimedMessage, most: int = 2000) -> str:
    """Return a message in one line for people."""
    if isinstance(timed.message, bytes):
        start = timed.message[:16].hex(" ")
        dots = " ..." if len(timed.message) > 16 else ""
        return f"{len(timed.message)} bytes: {start}{dots}"
    text = timed.message.replace("\n", "\\n")
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _attribute(text: str) -> str:
    return quoteattr(_writable(text))


def _writable(text: str) -> str:
    return _UNWRITABLE.sub("\ufffd", text)
