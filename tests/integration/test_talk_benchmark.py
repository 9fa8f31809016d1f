"""How the talk benchmark counts."""

import pytest

from benchmarks.talk.__main__ import Utterance, false_ends


@pytest.mark.parametrize(
    ("heard", "ends"),
    [
        (["Tell me the weather in Paris.", "What time is it?"], (0, 0)),
        (["Tell me the whether in paris", "What time is it?"], (0, 0)),
        (["Tell me the weather.", "In Paris.", "What time is it?"], (1, 0)),
        (["Tell me.", "The weather.", "In Paris.", "What.", "Time is it?"], (2, 1)),
        (["Tell me the weather in Paris."], (0, 0)),
    ],
)
def test_false_ends_of_speech_are_counted(heard: list[str], ends: tuple[int, int]) -> None:
    said = [
        Utterance("Tell me the weather in Paris.", "first", b""),
        Utterance("What time is it?", "second", b""),
    ]
    assert false_ends(said, heard) == {"first": (1, ends[0]), "second": (1, ends[1])}
