"""What the agent answers: plain rules over the words it heard.

Pure: words, memory and the time go in, an answer and the new memory come out. That lets an answer
be prepared before it is certain that it will be given. To put a language model here, keep
:func:`respond`'s shape and make it ``async``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from memory import Memory

LOUDEST = 10


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and what is to be remembered once it is given."""

    text: str
    memory: Memory
    is_whole: bool = False
    """Whether the words ask for all that this answer gives. If not, there may be more to come: a
    city after "the weather", a number after "set the volume"."""


@dataclass(frozen=True, slots=True)
class _Question:
    match: re.Match[str]
    memory: Memory
    now: datetime


_Answer = str | tuple[str, Memory]
_Rule = Callable[[_Question], _Answer]

STORY = (
    "Once upon a time there was a lighthouse keeper who talked to passing ships. "
    "Every night she asked each of them the same question: what have you seen? "
    "One told her of whales, and one of islands made of ice. "
    "She wrote it all down in a book that nobody read. "
    "Then, one winter, her lamp went out, and the ships came one after the other, "
    "each telling her, in its own voice, where the rocks were."
)
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def respond(words: str, memory: Memory, now: datetime) -> Reply:
    """Return the answer to what was said or typed.

    Args:
        words: As recognised or typed, with any punctuation.
        memory: What is known so far.
        now: The time where the agent runs.
    """
    plain = re.sub(r"[^\w\s']", " ", words.lower())
    plain = " ".join(plain.split())
    memory = replace(memory, turns=memory.turns + 1)
    answer: _Answer = f"You said: {words.rstrip('.,;:!? ')}."
    is_whole = False
    for pattern, rule in _RULES:
        if match := pattern.search(plain):
            answer = rule(_Question(match, memory, now))
            is_whole = pattern.pattern not in _BEGINNINGS
            break
    text, memory = answer if isinstance(answer, tuple) else (answer, memory)
    return Reply(text, replace(memory, last_said=text), is_whole)


def sentences(text: str) -> list[str]:
    """Split an answer into sentences, so that the first can be heard while the next is made."""
    return [part for part in re.split(r"(?<=[.!?])\s+", text.strip()) if part]


def _greet(question: _Question) -> _Answer:
    name = question.memory.name
    return f"Hello, {name}. How can I help?" if name else "Hello. What is your name?"


def _learn_name(question: _Question) -> _Answer:
    name = question.match["name"].title()
    return f"Nice to meet you, {name}.", replace(question.memory, name=name)


def _tell_name(question: _Question) -> _Answer:
    memory = question.memory
    if memory.name is None:
        return "You haven't told me your name."
    return f"Your name is {memory.name}. This is turn number {memory.turns}."


def _count_turns(question: _Question) -> _Answer:
    turns = question.memory.turns
    return f"This is turn number {turns}." if turns > 1 else "This is your first."


def _tell_time(question: _Question) -> _Answer:
    hour = question.now.hour % 12 or 12
    half = "in the morning" if question.now.hour < 12 else "in the afternoon"
    return f"It is {hour}:{question.now.minute:02d} {half}."


def _tell_date(question: _Question) -> _Answer:
    return f"Today is {question.now:%A, %B} {question.now.day}."


def _tell_weather(question: _Question) -> _Answer:
    city = question.match["city"].title()
    # The same city has the same weather every time it is asked for.
    celsius = sum(map(ord, city)) % 25 + 3
    sky = ("sunny", "cloudy", "windy")[celsius % 3]
    return f"In {city} it is {sky}, {celsius} degrees. I made that up: I have no network."


def _set_volume(question: _Question) -> _Answer:
    asked = question.match["level"]
    level = _NUMBERS.index(asked) if asked in _NUMBERS else min(int(asked[:3]), LOUDEST)
    return _with_volume(question.memory, level)


def _raise_volume(question: _Question) -> _Answer:
    return _with_volume(question.memory, min(question.memory.volume + 1, LOUDEST))


def _lower_volume(question: _Question) -> _Answer:
    return _with_volume(question.memory, max(question.memory.volume - 1, 0))


def _tell_volume(question: _Question) -> _Answer:
    return f"The volume is {question.memory.volume}."


def _with_volume(memory: Memory, level: int) -> _Answer:
    return f"The volume is {level}.", replace(memory, volume=level)


def _repeat(question: _Question) -> _Answer:
    return question.memory.last_said or "I haven't said anything yet."


def _say_goodbye(question: _Question) -> _Answer:
    name = question.memory.name
    return f"Goodbye, {name}." if name else "Goodbye."


def _always(text: str) -> _Rule:
    return lambda _question: text


_SOME_WEATHER, _SOME_VOLUME = r"\bweather\b", r"\bvolume\b"
#: What matches one of these is answered if it is all, but may well go on.
_BEGINNINGS = {_SOME_WEATHER, _SOME_VOLUME}
_NUMBER = r"(?P<level>\d+|" + "|".join(_NUMBERS) + ")"
# The first that matches answers, so the narrower ones come first.
_RULES: tuple[tuple[re.Pattern[str], _Rule], ...] = tuple(
    (re.compile(pattern), rule)
    for pattern, rule in (
        (r"^(?:stop|be quiet|shut up|enough)\b", _always("Okay.")),
        (r"\b(?:what(?: is|'s) my name|who am i|do you know me)\b", _tell_name),
        (r"\b(?:my name is|my name's|call me) (?P<name>[\w']+)", _learn_name),
        (r"\bhow many (?:questions|turns|times)\b", _count_turns),
        (r"\bweather (?:like )?(?:in|for|at) (?P<city>[\w' ]+?)(?: today| now| please)?$",
         _tell_weather),
        (_SOME_WEATHER, _always("For which city?")),
        (r"\bvolume to " + _NUMBER + r"\b", _set_volume),
        (r"\b(?:increased?|raise|turn up|louder)\b", _raise_volume),
        (r"\b(?:decreased?|lower|turn down|quieter)\b", _lower_volume),
        (r"\bwhat(?: is|'s) the volume\b", _tell_volume),
        (_SOME_VOLUME, _tell_volume),
        (r"\bwhat (?:time|hour)\b|\bthe time\b", _tell_time),
        (r"\bwhat (?:day|date)\b|\bthe date\b|\btoday\b", _tell_date),
        (r"\bstory\b", _always(STORY)),
        (r"\b(?:repeat|say) (?:that|it) again\b|\brepeat that\b", _repeat),
        (r"\bgood ?-?by(?:e)?\b|\bbye\b|\bsee you\b", _say_goodbye),
        (r"\bthank", _always("You're welcome.")),
        (r"\bhelp\b|\bwhat can you do\b",
         _always("Ask me for the time, the weather in a city, or a story. Or tell me your name.")),
        (r"\b(?:hello|hi|hey|good (?:morning|afternoon|evening))\b", _greet),
    )
)  # fmt: skip
