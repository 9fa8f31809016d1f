"""``${VAR}`` in the values an author writes.

``$${`` stands for a literal ``${``, and ``${{ … }}`` is left for the service that gets the
value. Anything else with a dollar sign is text. What a variable's value holds isn't looked
at again: a ``${`` in there is text, too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

# The order matters: "$${" and "${{" both contain what the later ones look for.
_PLACEHOLDER = re.compile(
    r"(?P<literal>\$\$\{)"
    r"|(?P<service>\$\{\{.*?\}\})"
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}"
    r"|(?P<broken>\$\{)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A text with its placeholders filled in."""

    text: str
    unset: tuple[str, ...]
    """The variables that had no value and became empty text, each once, in order."""


def resolve(text: str, values: Mapping[str, str]) -> Resolved:
    """Fill in the placeholders of ``text``.

    A ``${`` that begins no placeholder stays as it is; :func:`placeholder_fault` finds it.
    """
    unset: dict[str, None] = {}

    def fill(found: re.Match[str]) -> str:
        if found["literal"]:
            return "${"
        name = found["name"]
        if name is None:
            return found[0]
        if name not in values:
            unset[name] = None
        return values.get(name, "")

    return Resolved(_PLACEHOLDER.sub(fill, text), tuple(unset))


def names_in(text: str) -> tuple[str, ...]:
    """Return the variables that ``text`` asks for, each once, in order."""
    return tuple(dict.fromkeys(m["name"] for m in _PLACEHOLDER.finditer(text) if m["name"]))


def escape(text: str) -> str:
    """Return what to write so that :func:`resolve` gives ``text``."""
    return text.replace("${", "$${")


def placeholder_fault(text: str) -> str | None:
    """Tell what is wrong with the first ``${`` in ``text`` that begins no placeholder."""
    for found in _PLACEHOLDER.finditer(text):
        if found["broken"]:
            piece = text[found.start() : found.start() + 24].splitlines()[0]
            return (
                f'"{piece}" is not a placeholder; write ${{NAME}} for a variable, '
                "or $${ for the two characters themselves"
            )
    return None
