from datetime import UTC, datetime

import pytest

from memory import Memory
from reply import STORY, respond, sentences

NOW = datetime(2024, 5, 3, 14, 7, tzinfo=UTC)


def answer(words: str, memory: Memory | None = None) -> str:
    return respond(words, memory or Memory(), NOW).text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("What time is it?", "It is 2:07 in the afternoon."),
        ("What day is it to-day?", "Today is Friday, May 3."),
        ("Tell me a story.", STORY),
        ("Stop.", "Okay."),
        ("Thank you.", "You're welcome."),
        ("What's the weather?", "For which city?"),
        ("Seven of clubs.", "You said: Seven of clubs."),
        ("Hello there!", "Hello. What is your name?"),
        ("Good-by,", "Goodbye."),
        ("Good bye.", "Goodbye."),
        ("What is my name?", "You haven't told me your name."),
        ("Say that again.", "I haven't said anything yet."),
        ("What is the volume?", "The volume is 5."),
        ("How many questions have I asked?", "This is your first."),
    ],
)
def test_answers(words: str, expected: str) -> None:
    assert answer(words) == expected


@pytest.mark.parametrize(
    ("hour", "expected"),
    [(0, "12:07 in the morning"), (12, "12:07 in the afternoon"), (23, "11:07 in the afternoon")],
)
def test_hours_are_told_as_people_do(hour: int, expected: str) -> None:
    assert expected in respond("what time is it", Memory(), NOW.replace(hour=hour)).text


def test_weather_is_the_same_each_time_and_said_to_be_made_up() -> None:
    said = answer("Tell me the weather in New York today.")
    assert said.startswith("In New York it is ")
    assert "made that up" in said
    assert said == answer("how is the weather in new york")


@pytest.mark.parametrize("words", ["My name is Ada.", "Call me ada!", "my name's ADA"])
def test_a_name_is_remembered(words: str) -> None:
    reply = respond(words, Memory(), NOW)
    assert reply.text == "Nice to meet you, Ada."
    assert reply.memory.name == "Ada"
    assert answer("What is my name?", reply.memory) == "Your name is Ada. This is turn number 2."
    assert answer("Goodbye", reply.memory) == "Goodbye, Ada."


def test_asking_for_the_name_does_not_change_it() -> None:
    memory = respond("Do you know what is my name?", Memory(name="Ada"), NOW).memory
    assert memory.name == "Ada"


@pytest.mark.parametrize(
    ("words", "before", "after"),
    [
        ("Set the volume to seven.", 5, 7),
        ("Set the volume to 3", 5, 3),
        ("Set the volume to 99999999999999999999", 5, 10),
        ("Increase the volume.", 5, 6),
        ("Increased the volume.", 10, 10),
        ("Turn down the volume", 5, 4),
        ("Quieter please", 0, 0),
    ],
)
def test_volume(words: str, before: int, after: int) -> None:
    reply = respond(words, Memory(volume=before), NOW)
    assert reply.memory.volume == after
    assert reply.text == f"The volume is {after}."


def test_turns_are_counted_and_the_last_answer_kept() -> None:
    first = respond("Hello", Memory(turns=3), NOW)
    assert first.memory.turns == 4
    assert respond("repeat that", first.memory, NOW).text == first.text


def test_responding_changes_nothing_by_itself() -> None:
    memory = Memory()
    respond("My name is Ada", memory, NOW)
    assert memory == Memory()


def test_sentences() -> None:
    assert sentences("One. Two!  Three? Four") == ["One.", "Two!", "Three?", "Four"]
    assert sentences("It is 2:07 now.") == ["It is 2:07 now."]
    assert sentences("  ") == []


@pytest.mark.parametrize(
    ("words", "is_whole"),
    [
        ("What time is it?", True),
        ("Tell me the weather in Paris.", True),
        ("Tell me the weather.", False),
        ("Set the volume to seven,", True),
        ("Set the volume.", False),
        ("What is the volume?", True),
        ("My name is", False),
        ("Ten of clubs", False),
        ("", False),
    ],
)
def test_whether_there_may_be_more_to_come(words: str, is_whole: bool) -> None:
    assert respond(words, Memory(), NOW).is_whole is is_whole
