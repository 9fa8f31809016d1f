"""YAML read into a tree that knows where each value stands.

Only what JSON could hold: no tags, no merge keys, no keys but text, no key twice. Aliases
work, and count as often as they are used. Scalars keep the text as written, so that a
version ``1.10`` doesn't become the number 1.1. Knows nothing of what a file should say.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

MAX_FILE_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 32
MAX_NODES: Final = 20_000

_STRING_TAG: Final = "tag:yaml.org,2002:str"
# The core schema of YAML 1.2 (10.3.2): "yes" and "on" are text.
_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,400}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,400}|[0-9]{1,400}(\.[0-9]{0,400})?)([eE][-+]?[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text, number, truth value or null."""

    mark: Mark
    text: str
    is_plain: bool
    """Written without quotes: only then it can be anything but text."""

    @property
    def value(self) -> str | int | float | bool | None:
        """The value YAML 1.2 gives the text."""
        if not self.is_plain:
            return self.text
        if _NULL.fullmatch(self.text):
            return None
        if _BOOL.fullmatch(self.text):
            return self.text.lower() == "true"
        if _INT.fullmatch(self.text):
            return int(self.text)
        return float(self.text) if _FLOAT.fullmatch(self.text) else self.text


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    mark: Mark
    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """Fields with their values, in the file's order."""

    mark: Mark
    entries: tuple[tuple[Scalar, "Node"], ...]


Node = Scalar | Sequence | Mapping


class YamlProblemError(Exception):
    """The text isn't YAML of the kind read here."""

    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.mark = mark


def to_data(node: Node) -> Any:
    """Return the plain lists, dicts and scalars a node stands for."""
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [to_data(item) for item in node.items]
        case Mapping():
            return {key.text: to_data(value) for key, value in node.entries}


def kind_of(node: Node) -> str:
    """Return what a node is, for a message."""
    match node:
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"
        case Scalar(value=None):
            return "empty"
        case Scalar(value=bool()):
            return "true or false"
        case Scalar(value=int() | float()):
            return "a number"
        case Scalar():
            return "text"


def parse_yaml(text: str) -> Node | None:
    """Read the one document in ``text``. None if there is none.

    Raises:
        YamlProblemError: At the first thing that is wrong.
    """
    builder = _Builder()
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.receive(event)
    except ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        column = exc.position - text.rfind("\n", 0, exc.position)
        char = text[exc.position]
        raise YamlProblemError(
            Mark(line, column), f"the character U+{ord(char):04X} isn't allowed in YAML; remove it"
        ) from exc
    except MarkedYAMLError as exc:
        raise _syntax_problem(exc, text) from exc
    # The scanner hands the number of an escape such as "\\UFFFFFFFF" to chr() unseen.
    except (YAMLError, ValueError, OverflowError) as exc:
        raise YamlProblemError(builder.mark, f"not valid YAML after this: {exc}") from exc
    return builder.root


def _syntax_problem(exc: MarkedYAMLError, text: str) -> YamlProblemError:
    found = exc.problem_mark or exc.context_mark
    mark = Mark(found.line + 1, found.column + 1) if found else Mark(1, 1)
    problem = str(exc.problem or exc.context)
    lines = text.split("\n")
    line = lines[mark.line - 1] if mark.line <= len(lines) else ""
    if "'\\t'" in problem or re.match(r" *\t", line):
        column = line.find("\t") + 1
        message = "a tab is used for indentation, and YAML takes spaces only; replace the tabs"
        return YamlProblemError(Mark(mark.line, column), message)
    if "unexpected end of stream" in problem and exc.context_mark:
        # The end of the file helps nobody find the quote that was left open.
        mark = Mark(exc.context_mark.line + 1, exc.context_mark.column + 1)
        return YamlProblemError(mark, "this quote is never closed")
    hint = ""
    if "mapping values are not allowed" in problem:
        hint = '; text with ": " in it needs quotes, and fields of one mapping the same indentation'
    elif "cannot start any token" in problem:
        hint = "; put the text in quotes"
    elif "expected <block end>" in problem:
        hint = "; fields of one mapping need the same indentation"
    return YamlProblemError(mark, f"not valid YAML: {problem}{hint}")


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end hasn't come yet."""

    mark: Mark
    is_mapping: bool
    anchor: str | None
    children: list[Node]
    size: int = 1


class _Builder:
    """Takes a parser's events, and holds the tree of them.

    A loop and a stack: neither deep nesting nor aliases of aliases can make it recurse,
    or grow beyond ``MAX_NODES``.
    """

    def __init__(self) -> None:
        self.root: Node | None = None
        self.mark = Mark(1, 1)
        """Where the last event began."""
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._documents = 0
        self._total = 0

    def receive(self, event: Event) -> None:
        mark = Mark(event.start_mark.line + 1, event.start_mark.column + 1)
        self.mark = mark
        match event:
            case DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise YamlProblemError(mark, 'a second document begins here; remove the "---"')
            case AliasEvent():
                if event.anchor not in self._anchors:
                    raise YamlProblemError(mark, f"nothing is called &{event.anchor} before this")
                node, size = self._anchors[event.anchor]
                self._grow(size, mark)
                self._add(node, size, None)
            case ScalarEvent():
                self._open(event, mark)
                if _SURROGATE.search(event.value):
                    raise YamlProblemError(mark, "half a surrogate pair is no character")
                is_plain = event.style is None and event.tag is None
                self._add(Scalar(mark, event.value, is_plain), 1, event.anchor)
            case SequenceStartEvent() | MappingStartEvent():
                self._open(event, mark)
                is_mapping = isinstance(event, MappingStartEvent)
                self._stack.append(_Open(mark, is_mapping, event.anchor, []))
                if len(self._stack) > MAX_DEPTH:
                    raise YamlProblemError(mark, f"nested more than {MAX_DEPTH} levels deep")
            case SequenceEndEvent() | MappingEndEvent():
                self._close()
            case _:
                pass

    def _open(self, event: NodeEvent, mark: Mark) -> None:
        self._grow(1, mark)
        tag = getattr(event, "tag", None)
        if tag is not None and str(tag) not in (_STRING_TAG, "!"):
            raise YamlProblemError(mark, f"the tag {tag} isn't allowed; remove it")

    def _grow(self, size: int, mark: Mark) -> None:
        self._total += size
        if self._total > MAX_NODES:
            raise YamlProblemError(mark, f"more than {MAX_NODES} values, aliases counted each time")

    def _add(self, node: Node, size: int, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, size)
        if not self._stack:
            self.root = node
            return
        parent = self._stack[-1]
        if parent.is_mapping and len(parent.children) % 2 == 0 and not isinstance(node, Scalar):
            raise YamlProblemError(
                node.mark,
                "a field's name must be text; text that begins with { or [ needs quotes",
            )
        parent.children.append(node)
        parent.size += size

    def _close(self) -> None:
        done = self._stack.pop()
        node: Node
        if done.is_mapping:
            node = Mapping(done.mark, tuple(_pairs(done.children)))
        else:
            node = Sequence(done.mark, tuple(done.children))
        self._add(node, done.size, done.anchor)


def _pairs(children: list[Node]) -> Iterator[tuple[Scalar, Node]]:
    seen: dict[str, Mark] = {}
    for key, value in zip(children[::2], children[1::2], strict=True):
        assert isinstance(key, Scalar)
        if key.is_plain and key.text == "<<":
            raise YamlProblemError(key.mark, 'merge keys ("<<") aren\'t read; write the fields out')
        if key.text in seen:
            raise YamlProblemError(
                key.mark, f'"{key.text}" is given twice, first in line {seen[key.text].line}'
            )
        seen[key.text] = key.mark
        # The parser has a value that isn't there begin where the next thing does.
        is_absent = isinstance(value, Scalar) and value.is_plain and not value.text
        yield key, Scalar(key.mark, "", True) if is_absent else value
