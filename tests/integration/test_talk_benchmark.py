"""How the talk benchmark counts."""

import pytest

from benchmarks.talk.__main__ import LEAD_S, Utterance, false_ends

_SECOND = bytes(2 * 24_000)


@pytest.mark.parametrize(
    ("stops", "first", "second"),
    [
        ([2.0, 7.0], (2, 0, 0), (1, 0, 0)),
        ([1.0, 2.0, 7.0, 8.0, 9.0], (2, 1, 0), (1, 1, 0)),
        ([7.0], (2, 0, 1), (1, 0, 0)),
        ([-1.0, 2.0], (2, 0, 0), (1, 0, 1)),
    ],
)
def test_false_ends_of_speech_are_counted(
    stops: list[float], first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    said = [
        Utterance("Tell me the weather in Paris.", "first", 5 * _SECOND),
        Utterance("What time is it?", "second", 5 * _SECOND),
        Utterance("What is my name?", "first", 5 * _SECOND),
    ]
    stopped = [LEAD_S + at for at in [*stops, 12.0]]
    assert false_ends(said, stopped) == {"first": first, "second": second}
