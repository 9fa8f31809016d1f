"""What pydantic found wrong, in words for the person who wrote it.

pydantic's own texts name Python's types and may quote the value that was refused, which
could be a secret. These name JSON's types, what would be right, and no value but words.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from trunkline.manifest.vocabulary import nearest

#: What to write for a field that is missing or of the wrong type.
_EXAMPLES: Final[Mapping[str, str]] = {
    "definition": '{"kind": "hosted", "protocol_versions": [...], ...}',
    "kind": '"hosted"',
    "protocol_versions": '[{"protocol": "invocations_ws", "version": "1.0.0"}]',
    "protocol": '"invocations_ws"',
    "version": '"1.0.0"',
    "container_configuration": '{"image": "registry.example.com/voice:1"}',
    "image": '"registry.example.com/voice:1"',
    "code_configuration": '{"runtime": "python_3_12", "entry_point": ["python", "main.py"]}',
    "runtime": '"python_3_12"',
    "entry_point": '["python", "main.py"]',
    "environment_variables": '{"GREETING": "hello"}',
    "session_configuration": '{"idle_timeout_seconds": 900}',
    "idle_timeout_seconds": "900",
    "metadata": '{"team": "voice"}',
    "cpu": '"1"',
    "memory": '"2Gi"',
    "version_selector": '{"version_selection_rules": [...]}',
    "version_selection_rules": (
        '[{"type": "FixedRatio", "agent_version": "@latest", "traffic_percentage": 100}]'
    ),
    "type": "its type",
    "agent_version": '"@latest" or a version such as "3"',
    "traffic_percentage": "a whole number from 0 to 100",
    "protocol_configuration": '{"invocations_ws": {}}',
    "authorization_schemes": '[{"type": "Entra"}]',
    "policies": '[{"type": "rai_policy", "rai_policy_name": "strict"}]',
    "rai_policy_name": "the policy's name",
}

_MUST_BE: Final[Mapping[str, str]] = {
    "string_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "mapping_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}

_JSON_KINDS: Final[tuple[tuple[type, str], ...]] = (
    (bool, "true or false"),
    (int, "a number"),
    (float, "a number"),
    (str, "text"),
    (dict, "an object"),
    (list, "a list"),
)


def complaints(error: ValidationError) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Return each thing that is wrong: where, and what with what would be right."""
    details = error.errors(include_url=False, include_input=True)
    places = [detail["loc"] for detail in details]
    for detail, place in zip(details, places, strict=True):
        # A list whose items were all refused counts as empty, too. The items say enough.
        is_outer = any(len(o) > len(place) and o[: len(place)] == place for o in places)
        if detail["type"] == "too_short" and is_outer:
            continue
        where = tuple(part for part in place if part != "[key]")
        yield where, _sentence(detail["type"], detail, where)


def dotted(where: tuple[str | int, ...]) -> str:
    """Write a place as ``definition.protocol_versions[0].protocol``."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _sentence(kind: str, detail: Any, where: tuple[str | int, ...]) -> str:
    context: Mapping[str, Any] = detail.get("ctx", {})
    example = _EXAMPLES.get(where[-1]) if where and isinstance(where[-1], str) else None
    hint = f"; write {example}" if example else ""
    if kind in _MUST_BE:
        return f"{_MUST_BE[kind]}, and is {_json_kind(detail['input'])}{hint}"
    match kind:
        case "missing":
            sentence = f"is missing{hint}"
        case "too_short" | "string_too_short":
            sentence = f"must not be empty{hint}"
        case "value_error":
            sentence = str(context["error"])
        case "literal_error":
            sentence = _literal(detail["input"], str(context["expected"]))
        case "greater_than_equal":
            sentence = f"must be at least {context['ge']}"
        case "less_than_equal":
            sentence = f"must be at most {context['le']}"
        case _:
            sentence = str(detail["msg"])
    return sentence


def _literal(given: object, expected: str) -> str:
    words = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
    quoted = " or ".join(f'"{word}"' for word in words)
    if not isinstance(given, str):
        return f"must be {quoted}, and is {_json_kind(given)}"
    near = nearest(given, words)
    wanted = f'did you mean "{near}"?' if near else f"write {quoted}"
    return f'"{given[:60]}" isn\'t known; {wanted}'


def _json_kind(value: object) -> str:
    if value is None:
        return "null"
    # bool comes first: it is a kind of int in Python, and of nothing in JSON.
    for kind, name in _JSON_KINDS:
        if isinstance(value, kind):
            return name
    return type(value).__name__
