"""Settings: where they come from, and what they are when nobody says anything.

A component declares its settings as a frozen dataclass with a docstring under each field; this
module fills one from the environment (``TRUNKLINE_<COMPONENT>_<FIELD>``) and reports every bad
or unknown value at once. Nothing else in trunkline reads the environment.
"""

import ast
import dataclasses
import difflib
import inspect
import math
import os
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import platformdirs

from trunkline.protocol.errors import TrunklineError

PREFIX = "TRUNKLINE_"
STATE_DIR = "TRUNKLINE_HOME"
#: Variables under our prefix that no settings class declares.
OTHER_VARIABLES = frozenset(
    {STATE_DIR, "TRUNKLINE_ENDPOINT", "TRUNKLINE_TOKEN", "TRUNKLINE_AGENT_SOCKET", "TRUNKLINE_NODE"}
)

_S = TypeVar("_S")
_TEXT_TYPES: tuple[Any, ...] = (bool, int, float, str, Path, Path | None, tuple[str, ...])
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_WITH_UNIT = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([a-zA-Z]+)")
_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_BYTES = {"b": 1} | {
    prefix + end: 1024**power
    for power, prefix in enumerate("kmgt", start=1)
    for end in ("", "b", "ib")
}


class SettingsError(TrunklineError):
    """One or more settings are wrong; ``problems`` has a sentence for each."""

    code = "invalid_settings"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def environment() -> Mapping[str, str]:
    """Return the process's environment."""
    return os.environ


def default_state_dir() -> Path:
    """Return where state is kept unless ``--state-dir`` says otherwise."""
    named = os.environ.get(STATE_DIR)
    if named:
        return Path(named).expanduser()
    return Path(platformdirs.user_data_path("trunkline", appauthor=False))


@dataclasses.dataclass(frozen=True, slots=True)
class SettingDoc:
    """One setting, as the reference page tells it."""

    name: str
    variable: str
    type: str
    default: Any
    text: str


def variable_of(component: str, field: str) -> str:
    """Return the environment variable that sets a component's field."""
    return f"{PREFIX}{component}_{field}".upper()


def settable(settings: type[Any]) -> list[str]:
    """Name the fields of a settings class that an environment variable may set.

    A field without a default is for the code that composes the platform, and so is one whose
    value can't be written as text.
    """
    hints = get_type_hints(settings)
    return [
        field.name
        for field in dataclasses.fields(settings)
        if field.default is not dataclasses.MISSING and hints[field.name] in _TEXT_TYPES
    ]


def describe(component: str, settings: type[Any]) -> list[SettingDoc]:
    """List the fields of a settings class with the docstrings under them."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(settings)))
    (cls,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    texts: dict[str, str] = {}
    for node, after in zip(cls.body, [*cls.body[1:], None], strict=True):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            texts[node.target.id] = " ".join(str(after.value.value).split())
    hints = get_type_hints(settings)
    return [
        SettingDoc(
            field.name,
            variable_of(component, field.name),
            getattr(hints[field.name], "__name__", str(hints[field.name])),
            field.default,
            texts.get(field.name, ""),
        )
        for field in dataclasses.fields(settings)
        if field.name in settable(settings)
    ]


def load(component: str, settings: type[_S], env: Mapping[str, str], **given: Any) -> _S:
    """Make one component's settings: what is ``given``, else the environment, else defaults.

    Raises:
        SettingsError: With every value that doesn't fit.
    """
    hints = get_type_hints(settings)
    values = dict(given)
    problems, wrong = [], set()
    for name in settable(settings):
        variable = variable_of(component, name)
        if name in values or variable not in env:
            continue
        try:
            values[name] = _parse(name, env[variable], hints[name])
        except ValueError as exc:
            problems.append(f"{variable}={env[variable]!r}: {exc}")
            wrong.add(name)
    # A settings class complains of one thing at a time. What it complained of gets its default,
    # so that it comes to the next.
    while True:
        try:
            made = settings(**values)
        except ValueError as exc:
            blamed = _blamed(str(exc), settings)
            if not wrong.intersection(blamed):
                problems.append(_in_variables(str(exc), component, settings, env))
            if not blamed or blamed[0] not in values:
                break
            wrong.add(blamed[0])
            del values[blamed[0]]
        else:
            if not problems:
                return made
            break
    raise SettingsError(problems)


def _blamed(problem: str, settings: type[Any]) -> list[str]:
    """Name the fields that a settings class's complaint is about: it begins with the first."""
    names = set(settable(settings))
    first, *others = re.findall(r"\w+", problem) or [""]
    return [first, *(w for w in others if "_" in w and w in names)] if first in names else []


def _in_variables(problem: str, component: str, settings: type[Any], env: Mapping[str, str]) -> str:
    """Tell a settings class's complaint with the variables that an operator knows."""
    hints = get_type_hints(settings)
    for name in dict.fromkeys(_blamed(problem, settings)):
        variable = variable_of(component, name)
        # Other values may be secret.
        is_shown = hints[name] in (int, float) and variable in env
        shown = f"{variable}={env[variable]}" if is_shown else variable
        problem = shown.join(re.split(rf"\b{name}\b", problem, maxsplit=1))
    return problem if PREFIX in problem else f"{component}: {problem}"


def check_unknown(env: Mapping[str, str], components: Mapping[str, type[Any]]) -> None:
    """Refuse variables under our prefix that set nothing: they are misspelt.

    Raises:
        SettingsError: Naming each, with the nearest known name.
    """
    known = set(OTHER_VARIABLES)
    for component, settings in components.items():
        known.update(variable_of(component, name) for name in settable(settings))
    problems = []
    for name in sorted(env):
        if not name.startswith(PREFIX) or name in known:
            continue
        # Compared without the prefix they share, which would make any two of them alike.
        stems = {known_name.removeprefix(PREFIX): known_name for known_name in known}
        near = [stems[s] for s in difflib.get_close_matches(name.removeprefix(PREFIX), stems, n=1)]
        hint = f"; did you mean {near[0]}?" if near else ""
        problems.append(f"{name} is not a setting{hint}")
    if problems:
        raise SettingsError(problems)


def _parse(name: str, text: str, hint: Any) -> Any:
    text = text.strip()
    if hint is bool:
        return _parse_bool(text)
    if hint in (Path, Path | None):
        if not text:
            raise ValueError("give a path")
        return Path(text).expanduser()
    if hint == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if hint in (int, float):
        return _parse_number(name, text, hint)
    return text


def _parse_number(name: str, text: str, hint: type[int] | type[float]) -> int | float:
    kind = "a whole number" if hint is int else "a number"
    units: Mapping[str, float] = {}
    if name.endswith("_bytes"):
        kind, units = f"{kind} of bytes", _BYTES
    elif name.endswith("_s") and not name.endswith("_per_s"):
        kind, units = f"{kind} of seconds", _SECONDS
    try:
        number = hint(text)
    except ValueError:
        meant = _WITH_UNIT.fullmatch(text)
        if meant is not None and meant[2].lower() in units:
            amount = round(float(meant[1]) * units[meant[2].lower()], 6)
            kind += f" without a unit: {int(amount) if amount.is_integer() else amount}"
        raise ValueError(f"give {kind}") from None
    # A deadline of nan is never over, and one of inf no deadline.
    if not math.isfinite(number):
        raise ValueError(f"give {kind}")
    return number


def _parse_bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("give true or false")
