"""Reading a mapping field by field, and collecting what is wrong with it."""

import re
from collections.abc import Mapping as MappingOf

from trunkline.manifest.errors import Problem
from trunkline.manifest.vocabulary import nearest
from trunkline.manifest.yaml_tree import Mapping, Mark, Node, Scalar, Sequence, kind_of

#: Words people write for a field, that look too little like it to be found by likeness.
_OTHER_WORDS: MappingOf[str, str] = {
    "env": "environment_variables",
    "environment": "environment_variables",
    "env_vars": "environment_variables",
    "code": "code_configuration",
    "container": "resources",
    "main": "entry_point",
    "title": "display_name",
    "tags": "metadata",
    "authors": "metadata",
    "idle_timeout": "session_configuration",
    "key": "name",
}


class Report:
    """The problems of one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def add(self, mark: Mark, field: str, message: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(self.file, mark.line, mark.column, field, message))

    def in_order(self) -> list[Problem]:
        """Return the problems in the file's order."""
        return sorted(self.problems, key=lambda problem: (problem.line, problem.column))


class Fields:
    """The fields of one mapping.

    Unknown ones are reported at once. Each method that reads a field returns None when
    it isn't there, and also when it is wrong, which has been reported then.
    """

    def __init__(
        self,
        node: Mapping,
        path: str,
        report: Report,
        known: MappingOf[str, str],
        elsewhere: MappingOf[str, str] | None = None,
    ) -> None:
        """Read the mapping's keys.

        Args:
            node: The mapping.
            path: Its place in the file, empty for the file itself.
            report: Takes the problems.
            known: Every spelling that is right, and the field it stands for.
            elsewhere: Words that belong to another place, and what to say about them.
        """
        self.mark = node.mark
        self._path = path
        self._report = report
        self._values: dict[str, Node] = {}
        misspelt: dict[str, Node] = {}
        for key, value in node.entries:
            name = known.get(key.text)
            if name is None:
                message, meant = _unknown(key.text, known, elsewhere or {})
                report.add(key.mark, self.path(key.text), message)
                if meant is not None:
                    misspelt[meant] = value
            elif name in self._values:
                report.add(key.mark, self.path(key.text), f'"{name}" is given twice')
            else:
                self._values[name] = value
        # A misspelt field is read as the one it was meant for, so that what is wrong in it
        # is found in the same go, and a required one isn't said to be missing as well.
        self._values = misspelt | self._values

    def __contains__(self, name: str) -> bool:
        """Tell whether the field is there, or was meant by a misspelt one."""
        return name in self._values

    def path(self, name: str) -> str:
        """Return the field's place in the file."""
        return f"{self._path}.{name}" if self._path else name

    def report(self, name: str, message: str) -> None:
        """Note a problem with a field, or with its absence."""
        mark = self._values[name].mark if name in self._values else self.mark
        self._report.add(mark, self.path(name), message)

    def require(self, name: str, message: str) -> None:
        """Note a problem if the field isn't there."""
        if name not in self:
            self.report(name, message)

    def node(self, name: str) -> Node | None:
        """Return the field's value as it is."""
        return self._values.get(name)

    def text(self, name: str, example: str) -> str | None:
        """Return a text. A number or truth value counts as the text it was written as."""
        node = self._values.get(name)
        if node is None:
            return None
        if isinstance(node, Scalar) and node.value is not None:
            if node.text.strip():
                return node.text
            self.report(name, f"is blank; write such as {example}")
        else:
            self.report(name, f"must be text, and is {kind_of(node)}; write such as {example}")
        return None

    def mapping(self, name: str, example: str) -> Mapping | None:
        """Return a mapping."""
        node = self._values.get(name)
        if node is None or isinstance(node, Mapping):
            return node
        self.report(name, f"must be a mapping, and is {kind_of(node)}; write {example}")
        return None

    def sequence(self, name: str, example: str) -> Sequence | None:
        """Return a list."""
        node = self._values.get(name)
        if node is None or isinstance(node, Sequence):
            return node
        self.report(name, f"must be a list, and is {kind_of(node)}; write {example}")
        return None


def spellings(*names: str, **others: str) -> dict[str, str]:
    """Make the table of a mapping's known fields.

    Args:
        names: Fields with one spelling.
        others: Further spellings, and the field each stands for.
    """
    return {**{name: name for name in names}, **others}


def _unknown(
    word: str, known: MappingOf[str, str], elsewhere: MappingOf[str, str]
) -> tuple[str, str | None]:
    if word in elsewhere:
        return f"is not a field here; {elsewhere[word]}", None
    snake = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", word).replace("-", "_").lower()
    if snake in known:
        return f'is not a field; agent.yaml spells it "{snake}"', known[snake]
    other = _OTHER_WORDS.get(snake)
    near = other if other in known else nearest(snake, known)
    if near is not None:
        return f'is not a field; did you mean "{near}"?', known[near]
    return f"is not a field; there are {', '.join(dict.fromkeys(known.values()))}", None
