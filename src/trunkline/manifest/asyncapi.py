"""Whether a text is an AsyncAPI document, as far as its readers count on it. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

#: The longest document that is looked at.
MAX_BYTES: Final = 1024 * 1024
_VERSION = re.compile(r"([23])\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.-]+)?")


def asyncapi_fault(document: bytes, *, is_yaml: bool) -> str | None:
    """Return what is wrong with a document, as a sentence's end; None if nothing is.

    Both versions of the specification require what is looked for (its "AsyncAPI Object" and "Info
    Object"). The rest of a document is its author's.
    """
    try:
        text = document.decode()
        value = YAML(typ="safe", pure=True).load(text) if is_yaml else json.loads(text)
    except UnicodeDecodeError:
        return "it isn't UTF-8"
    except json.JSONDecodeError as error:
        return f"it isn't JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except YAMLError as error:
        return f"it isn't YAML: {str(error).splitlines()[0]}"
    except (RecursionError, ValueError) as error:
        return f"it can't be read: {error}"
    if not isinstance(value, Mapping):
        return "it isn't an object"
    return _fault_of(value)


def _fault_of(value: Mapping[Any, Any]) -> str | None:
    version, info = value.get("asyncapi"), value.get("info")
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        return 'asyncapi must be a version of the specification, such as "3.0.0"'
    if not isinstance(info, Mapping):
        return "info must be an object"
    for name in ("title", "version"):
        if not isinstance(info.get(name), str):
            return f"info.{name} must be text"
    # The second version requires channels, the third lets them be left out.
    channels = value.get("channels", None if match[1] == "2" else {})
    return None if isinstance(channels, Mapping) else "channels must be an object"
