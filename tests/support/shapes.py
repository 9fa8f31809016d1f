"""What a JSON document is made of: its keys and the types of its values."""

from typing import Any


def shape(value: Any) -> str:
    """Return a document's shape on one line; what a list holds is named once."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shape(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + " | ".join(sorted({shape(each) for each in value})) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "string"
