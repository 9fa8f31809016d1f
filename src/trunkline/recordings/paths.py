"""Places in a JSON document, to be ignored in a comparison, and the differences of two. No I/O."""

import json
import re
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]

_STEP = re.compile(r"\.\.?([\w$-]+|\*)|\[(\d+|\*)\]|\.?\[\"([^\"]*)\"\]")
#: Any number of steps.
_DEEP = "**"
_MAX_SHOWN = 60


class JsonPaths:
    """A set of patterns such as ``$.id``, ``items[*].time`` and ``..timestamp``.

    ``*`` is any one step, ``..`` any number of them, ``$`` may be left out. What lies below a
    place that matches is ignored with it.
    """

    def __init__(self, *patterns: str) -> None:
        """Read the patterns.

        Raises:
            ValueError: If one can't be read.
        """
        self._patterns = [_parse(pattern) for pattern in patterns]

    def __contains__(self, path: Path) -> bool:
        return any(_matches(pattern, path) for pattern in self._patterns)

    def pruned(self, value: Any, at: Path = ()) -> Any:
        """Return a document without what is ignored."""
        if isinstance(value, dict):
            return {
                key: self.pruned(item, (*at, key))
                for key, item in value.items()
                if (*at, key) not in self
            }
        if isinstance(value, list):
            return [
                self.pruned(item, (*at, index))
                for index, item in enumerate(value)
                if (*at, index) not in self
            ]
        return value


def differences(old: Any, new: Any, at: Path = ()) -> Iterator[str]:
    """Yield a line for each place where two documents differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if key not in new:
                yield f"{show_path((*at, key))} is gone: it was {_shown(old[key])}"
            elif key not in old:
                yield f"{show_path((*at, key))} is new: {_shown(new[key])}"
            else:
                yield from differences(old[key], new[key], (*at, key))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(min(len(old), len(new))):
            yield from differences(old[index], new[index], (*at, index))
        if len(old) != len(new):
            yield f"{show_path(at)} has {len(new)} items: it had {len(old)}"
    # True is 1 to Python and not to JSON.
    elif type(old) is not type(new) or old != new:
        yield f"{show_path(at)}: {_shown(old)} became {_shown(new)}"


def canonical(value: Any) -> str:
    """Return a text that is the same for documents that mean the same."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def show_path(path: Path) -> str:
    """Return a place as people write it."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "$" + "".join(steps)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def _parse(pattern: str) -> Path:
    text = pattern.removeprefix("$")
    if text and text[0] not in ".[":
        text = f".{text}"
    steps: list[str | int] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise ValueError(f"{pattern!r} isn't a path: write $.name, $.items[*].id or ..id")
        if match[0].startswith(".."):
            steps.append(_DEEP)
        name, index, quoted = match.groups()
        if quoted is not None:
            steps.append(quoted)
        elif index is not None:
            steps.append(index if index == "*" else int(index))
        else:
            steps.append(name)
        position = match.end()
    if not steps:
        raise ValueError(f"{pattern!r} is the whole document: write $.name, $.items[*].id or ..id")
    return tuple(steps)


def _matches(pattern: Path, path: Path) -> bool:
    if not pattern:
        return not path
    if pattern[0] == _DEEP:
        return any(_matches(pattern[1:], path[skip:]) for skip in range(len(path)))
    if not path or pattern[0] not in ("*", path[0]):
        return False
    return _matches(pattern[1:], path[1:])
