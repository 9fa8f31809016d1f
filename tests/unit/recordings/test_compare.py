"""What counts as a difference, and how it is told."""

import array
import math
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, strategies as st

from trunkline.protocol.close import CloseInfo
from trunkline.recordings.audio import SILENCE_DBFS, AudioFormat, measure
from trunkline.recordings.compare import Difference, Kind, Rules, compare, compare_close
from trunkline.recordings.format import Message, TimedMessage
from trunkline.recordings.junit import junit_of
from trunkline.recordings.paths import JsonPaths, differences


def timed(*messages: Message) -> list[TimedMessage]:
    return [TimedMessage(float(at), message) for at, message in enumerate(messages)]


def found(old: list[Message], new: list[Message], **rules: object) -> list[tuple[str, int | None]]:
    differing = compare(timed(*old), timed(*new), Rules(**rules))  # type: ignore[arg-type]
    return [(str(d.kind), d.index) for d in differing]


MESSAGES = st.lists(st.one_of(st.text(max_size=5), st.binary(max_size=5)), max_size=12)


@given(MESSAGES)
def test_the_same_is_no_difference(messages: list[Message]) -> None:
    assert found(messages, list(messages)) == []


@given(MESSAGES, MESSAGES)
def test_what_isnt_the_same_is_a_difference(old: list[Message], new: list[Message]) -> None:
    keys = [[(type(m), m) for m in side] for side in (old, new)]
    if any(isinstance(m, str) and m[:1] in "[{" for m in (*old, *new) if m):
        return
    assert bool(found(old, new)) == (keys[0] != keys[1])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (["a", "b", "c"], ["a", "c"], [("missing", 1)]),
        (["a", "c"], ["a", "b", "c"], [("extra", None)]),
        (["a", "b", "c"], ["a", "x", "c"], [("changed", 1)]),
        (["a"], [b"a"], [("changed", 0)]),
        (["a", "b"], [], [("missing", 0), ("missing", 1)]),
        (['{"a":1,"b":2}'], ['{ "b": 2, "a": 1 }'], []),
        (['{"a":1}'], ['{"a":true}'], [("changed", 0)]),
        (["1"], ["1.0"], [("changed", 0)]),
    ],
)
def test_messages_are_aligned(
    old: list[Message], new: list[Message], expected: list[tuple[str, int | None]]
) -> None:
    assert found(old, new) == expected


def test_exact_is_to_the_space() -> None:
    assert found(['{"a":1}'], ['{"a": 1}'], is_exact=True) == [("changed", 0)]


def test_ignored_places() -> None:
    old = ['{"id":"x","items":[{"t":1,"v":2}],"deep":{"er":{"time":5}}}']
    new = ['{"id":"y","items":[{"t":9,"v":2}],"deep":{"er":{"time":6}}}']
    assert found(old, new) == [("changed", 0)]
    ignored = JsonPaths("$.id", "items[*].t", "..time")
    assert found(old, new, ignored=ignored) == []
    (difference,) = compare(timed(*old), timed(*new), Rules(ignored=JsonPaths("id", "..time")))
    assert difference.detail == ("$.items[0].t: 1 became 9",)


def test_the_places_that_differ_are_told() -> None:
    assert list(differences({"a": [1, 2], "b": 1, "c": "x"}, {"a": [1], "c": "y", "d": None})) == [
        "$.a has 1 items: it had 2",
        "$.b is gone: it was 1",
        '$.c: "x" became "y"',
        "$.d is new: null",
    ]


@pytest.mark.parametrize("pattern", ["", "$", "a b", "$.", "[x]", "a..", "a[1"])
def test_paths_that_are_none(pattern: str) -> None:
    with pytest.raises(ValueError, match="write"):
        JsonPaths(pattern)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("$.a.b", ("a", "b"), True),
        ("a.b", ("a",), False),
        ("a.*", ("a", 3), True),
        ("a[1]", ("a", 1), True),
        ("a[1]", ("a", 2), False),
        ("..b", ("x", "y", "b"), True),
        ("..b", ("b",), True),
        ("..b.c", ("b", "x"), False),
        ('["odd name"]', ("odd name",), True),
        ("$.a..z", ("a", "q", "z"), True),
    ],
)
def test_paths(pattern: str, path: tuple[str | int, ...], matches: bool) -> None:
    assert (path in JsonPaths(pattern)) is matches


def test_many_messages_that_differ_are_compared_in_order() -> None:
    old, new = [str(n) for n in range(4000)], [f"x{n}" for n in range(4000)]
    assert len(found(list(old), list(new))) == 4000
    # What is the same before and after costs nothing.
    assert found([*old, "a", *old], [*old, "b", *old]) == [("changed", 4000)]


def tone(seconds: float, level: float) -> bytes:
    count = int(24000 * seconds)
    return array.array("h", (int(level * 32767 * math.sin(n / 8)) for n in range(count))).tobytes()


def pieces(data: bytes, size: int) -> list[Message]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def test_sound_is_compared_by_length_and_level() -> None:
    form = AudioFormat()
    base: list[Message] = [*pieces(tone(1, 0.5), 960), "end"]
    assert found(base, ["end", *pieces(tone(1.05, 0.5), 777)], audio=form) == []
    assert found(base, [*pieces(tone(1.3, 0.5), 960), "end"], audio=form) == [("audio", None)]
    assert found(base, [*pieces(tone(1, 0.1), 960), "end"], audio=form) == [("audio", None)]
    assert found(base, [*pieces(tone(1, 0.5), 960), "END"], audio=form) == [("changed", 50)]
    assert found(base, ["end"], audio=form) == [("audio", None)]
    assert (
        found(base, [*pieces(tone(1.3, 0.5), 960), "end"], audio=form, duration_tolerance=0.5) == []
    )
    (difference,) = compare(timed(*base), timed("end"), Rules(audio=form))
    assert difference.detail == ("0.00 s of sound: it was 1.00 s",)


def test_levels() -> None:
    full = array.array("h", [32767, -32768] * 100).tobytes()
    assert measure([full[:3], full[3:]], AudioFormat()).level_dbfs == pytest.approx(0, abs=0.01)
    half = measure([tone(1, 0.5)], AudioFormat())
    assert half.duration_s == 1
    assert half.level_dbfs == pytest.approx(-9.03, abs=0.1)
    assert measure([], AudioFormat()).level_dbfs == SILENCE_DBFS
    assert measure([bytes(100)], AudioFormat()).level_dbfs == SILENCE_DBFS
    # G.711 has 0x80 and 0x00 for its loudest, 0xff and 0x7f for silence.
    mulaw = AudioFormat.parse("mulaw")
    assert measure([b"\x00\x80" * 50], mulaw).level_dbfs == pytest.approx(-0.17, abs=0.05)
    assert measure([b"\xff\x7f" * 50], mulaw).level_dbfs == SILENCE_DBFS
    assert measure([bytes(8000)], mulaw).duration_s == 1


@pytest.mark.parametrize("text", ["mp3", "pcm16:", "pcm16:0", "pcm16:x", ""])
def test_forms_of_sound_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="pcm16:24000"):
        AudioFormat.parse(text)


def test_forms_of_sound() -> None:
    assert AudioFormat.parse("pcm16:48000:2").bytes_per_second == 192_000
    assert AudioFormat.parse("pcm16") == AudioFormat()
    assert AudioFormat.parse("mulaw").bytes_per_second == 8000


def test_a_matcher_decides_alone() -> None:
    rules = Rules(matcher=lambda old, new: [f"{len(old)} and {len(new)}"])
    (difference,) = compare(timed("a"), timed("b", "c"), rules)
    assert (difference.kind, difference.detail) == (Kind.MATCHER, ("1 and 2",))


def test_closes() -> None:
    assert compare_close(None, CloseInfo(1011, "")) == []
    assert compare_close(CloseInfo(1000, ""), CloseInfo(1000, "bye")) == []
    (difference,) = compare_close(CloseInfo(1000, ""), CloseInfo(1011, "Internal server error"))
    assert difference.detail == ("closed with 1011 Internal server error: it was 1000",)
    assert compare_close(CloseInfo(4000, "a"), CloseInfo(4000, "b"))


def test_junit() -> None:
    recorded = timed("a", "b\x00<>&\"'", b"\x01")
    differing = [
        Difference(
            kind=Kind.CHANGED, index=1, recorded=recorded[1], received=recorded[0], detail=("$.x",)
        ),
        Difference(kind=Kind.EXTRA, received=recorded[2]),
        Difference(kind=Kind.AUDIO, detail=("longer",)),
        Difference(kind=Kind.CLOSE, detail=("1011",)),
    ]
    root = ET.fromstring(junit_of("call \x01.trk", recorded, differing, 1.5))
    (suite,) = root
    assert suite.attrib["tests"] == "6"
    assert suite.attrib["failures"] == "4"
    names = [case.attrib["name"] for case in suite]
    assert names == [
        "message 1", "message 2", "message 3", "no further messages", "close code", "audio",
    ]  # fmt: skip
    (failure,) = suite[1]
    assert failure.attrib["message"] == "changed"
    assert "$.x" in (failure.text or "")
    assert len(suite[0]) == 0


def test_junit_of_a_replay_without_a_difference() -> None:
    (suite,) = ET.fromstring(junit_of("call.trk", timed("a"), [], 0))
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("3", "0")
