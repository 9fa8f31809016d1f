"""The statements by name, read once from the files beside this one."""

import re
from importlib import resources
from typing import Final

_FOLDER: Final = resources.files("trunkline.store.sql") / "queries"
#: What stands in braces in a list's statement, oldest first and newest first.
_ASCENDING: Final = {"order": "asc", "after": ">", "before": "<"}
_DESCENDING: Final = {"order": "desc", "after": "<", "before": ">"}


def load_queries() -> dict[str, str]:
    """Return all statements; a list's has ``_asc`` or ``_desc`` after its name."""
    found: dict[str, str] = {}
    for file in sorted(_FOLDER.iterdir(), key=lambda file: file.name):
        parts = re.split(r"^-- name: (\w+)$", file.read_text("utf-8"), flags=re.MULTILINE)[1:]
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            sql = text.strip()
            if "{order}" in sql:
                found[f"{name}_asc"] = sql.format(**_ASCENDING)
                found[f"{name}_desc"] = sql.format(**_DESCENDING)
            else:
                found[name] = sql
    return found
