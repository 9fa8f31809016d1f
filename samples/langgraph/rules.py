"""What the librarian does about what was said: rules in the place of a language model.

Pure: words go in; a sentence, or a tool to call, comes out.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

HELP = "I lend books. Ask for one about the sea, say which you would like, or ask what you have."


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that is to be called before there is an answer."""

    tool: str
    arguments: dict[str, str] = field(default_factory=dict)


Decision = str | Call
_IT = re.compile(r"^(?:it|that|this|that one|this one|the first(?: one)?)$")


def decide(said: str, shown: str | None) -> Decision:
    """Return what to do about what was said.

    Args:
        said: Anything.
        shown: The title that was spoken of last: what "it" means.
    """
    plain = " ".join(re.sub(r"[^\w\s'-]", " ", said.lower()).split())
    for pattern, rule in _RULES:
        if match := pattern.search(plain):
            return rule(match, shown)
    return HELP


def phrase(tool: str, result: str) -> str:
    """Return a tool's result in words."""
    try:
        found = json.loads(result)
    except ValueError:
        # What the graph itself says, such as that a tool failed.
        return result
    if isinstance(found, dict):
        return str(found["says"])
    if tool == "loans":
        return f"You have {_listed(found)}." if found else "You have borrowed nothing."
    if not found:
        return "I have nothing like that."
    return (
        f"I have {_listed(found)}. Would you like to borrow {'it' if len(found) == 1 else 'one'}?"
    )


def title_in(tool: str, result: str) -> str | None:
    """Return the first title a tool's result speaks of, if there is one."""
    try:
        found = json.loads(result)
    except ValueError:
        return None
    if isinstance(found, dict):
        return found.get("title")
    return found[0]["title"] if tool == "find_books" and found else None


def _listed(found: list[dict[str, Any]]) -> str:
    names = [f"{book['title']} by {book['author']}" for book in found]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _with_title(tool: str) -> Callable[[re.Match[str], str | None], Decision]:
    def rule(match: re.Match[str], shown: str | None) -> Decision:
        title = match["title"]
        if not _IT.match(title):
            return Call(tool, {"title": title})
        return Call(tool, {"title": shown}) if shown else "Which book do you mean?"

    return rule


_END = r"(?: please| then| now| today)*$"
# The first that matches decides, so the narrower ones come first.
_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], str | None], Decision]], ...] = tuple(
    (re.compile(pattern), rule)
    for pattern, rule in (
        (r"\b(?:what|which)\b.*\b(?:borrowed|do i have|have i)\b|\bmy loans\b",
         lambda _match, _shown: Call("loans")),
        (r"\b(?:give back|bring back|return) (?P<title>.+?)(?: back)?" + _END,
         _with_title("give_back")),
        (r"\b(?:borrow|lend me|take) (?P<title>.+?)" + _END, _with_title("borrow")),
        (r"\b(?:about|on|by) (?P<about>.+?)" + _END,
         lambda match, _shown: Call("find_books", {"about": match["about"]})),
        (r"\b(?:hello|hi|hey|good (?:morning|afternoon|evening))\b",
         lambda _match, _shown: f"Hello. {HELP}"),
        (r"\bthank", lambda _match, _shown: "You're welcome."),
    )
)  # fmt: skip
