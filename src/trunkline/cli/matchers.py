"""The user's own function that compares two sides of a conversation."""

import importlib.util
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trunkline.protocol.errors import InvalidRequestError
from trunkline.recordings.compare import Matcher
from trunkline.recordings.format import Message

_DEFAULT_NAME = "match"


def load_matcher(text: str) -> Matcher:
    """Return the function that ``FILE.py:NAME`` names; ``match`` if it names none.

    Raises:
        InvalidRequestError: If it isn't there, or fails to load.
    """
    file, _, name = text.rpartition(":") if ":" in Path(text).name else (text, "", "")
    path, name = Path(file), name or _DEFAULT_NAME
    if not path.is_file():
        raise InvalidRequestError(f"--matcher: there is no file {path}")
    spec = importlib.util.spec_from_file_location("_trunkline_matcher", path)
    if spec is None or spec.loader is None:
        raise InvalidRequestError(f"--matcher: {path} isn't Python: name a file FILE.py:NAME")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.absolute()))
    try:
        spec.loader.exec_module(module)
    except Exception as exc:
        raise InvalidRequestError(f"--matcher: {path} fails: {type(exc).__name__}: {exc}") from exc
    finally:
        sys.path.pop(0)
    function: Any = getattr(module, name, None)
    if not callable(function):
        raise InvalidRequestError(f"--matcher: {path} has no function {name}(recorded, received)")

    def matcher(recorded: Sequence[Message], received: Sequence[Message]) -> Iterable[str]:
        try:
            return list(function(recorded, received) or ())
        except Exception as exc:
            raise InvalidRequestError(
                f"--matcher: {name} in {path} fails: {type(exc).__name__}: {exc}"
            ) from exc

    return matcher
