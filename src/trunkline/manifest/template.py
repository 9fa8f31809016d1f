"""Reading an ``agent.manifest.yaml``: an ``agent.yaml`` with parameters to be given."""

import json
import re
from collections.abc import Iterator, Mapping as MappingOf
from dataclasses import dataclass
from pathlib import Path

from trunkline.manifest.agent_yaml import read_text
from trunkline.manifest.errors import ManifestError
from trunkline.manifest.fields import Fields, Report, spellings
from trunkline.manifest.vocabulary import nearest
from trunkline.manifest.yaml_tree import (
    Mapping,
    Node,
    Scalar,
    Sequence,
    YamlProblemError,
    kind_of,
    parse_yaml,
    to_data,
)
from trunkline.protocol.errors import InvalidRequestError

MANIFEST_FILES = ("agent.manifest.yaml", "agent.manifest.yml")

_PLACEHOLDER = re.compile(r"\{\{\s*([^\s{}][^{}]*?)\s*\}\}")
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./ -]*[A-Za-z0-9_./-]|[A-Za-z]")
#: Plain text that YAML reads as something else.
_NOT_TEXT = re.compile(r"(?i)true|false|null|yes|no|on|off|~")
_TYPES = ("string", "integer", "number", "boolean")
_KNOWN = spellings(
    "name", "description", "metadata", "template", "parameters", "resources",
    displayName="displayName", display_name="displayName",
)  # fmt: skip
_PARAMETER_KNOWN = spellings(
    "name", "schema", "description", "required", "default", "example", "enumValues", "secret",
    "type", "enum", enum_values="enumValues",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One thing to be said when the template is used."""

    name: str
    type: str = "string"
    description: str = ""
    choices: tuple[str, ...] = ()
    default: str | None = None
    is_required: bool = True
    is_secret: bool = False

    def check(self, value: str) -> None:
        """Refuse a value that doesn't fit.

        Raises:
            InvalidRequestError: With what would.
        """
        shown = "that" if self.is_secret else repr(value)
        if self.choices and value not in self.choices:
            near = nearest(value, self.choices)
            hint = f"; did you mean {near!r}?" if near else f": {', '.join(self.choices)}"
            raise InvalidRequestError(f"{self.name}: {shown} is none of its values{hint}")
        patterns = {"integer": r"-?\d+", "number": r"-?\d+(\.\d+)?", "boolean": "true|false"}
        pattern = patterns.get(self.type)
        if pattern and not re.fullmatch(pattern, value):
            raise InvalidRequestError(f"{self.name}: {shown} isn't of the type {self.type}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A checked ``agent.manifest.yaml``."""

    path: Path
    name: str
    template: Mapping
    parameters: tuple[Parameter, ...]
    resources: tuple[str, ...]
    """What it wants from the platform besides, such as a model, for people to see."""

    def fill(self, values: MappingOf[str, str]) -> "Filled":
        """Return the ``agent.yaml`` the template makes of some values.

        Raises:
            InvalidRequestError: If a value doesn't fit, isn't asked for, or lacks.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name, value in values.items():
            if name not in known:
                near = nearest(name, known)
                names = ", ".join(known) or "none"
                hint = f"did you mean {near!r}?" if near else f"it has {names}"
                raise InvalidRequestError(f"the manifest has no parameter {name!r}; {hint}")
            known[name].check(value)
        filled = {
            name: values.get(name, parameter.default or "")
            for name, parameter in known.items()
            if name in values or parameter.default is not None or not parameter.is_required
        }
        missing = [name for name in known if name not in filled]
        if missing:
            wanted = " ".join(f"--param {name}=..." for name in missing)
            raise InvalidRequestError(f"the manifest asks for {', '.join(missing)}: add {wanted}")
        left: dict[str, None] = {}
        lines = list(_emit_mapping(self.template, filled, left, ""))
        return Filled("\n".join([*lines, ""]), tuple(left))


@dataclass(frozen=True, slots=True)
class Filled:
    """A template that was used."""

    text: str
    left: tuple[str, ...]
    """The placeholders nothing was said about; they are still in the text."""


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises:
        ManifestError: With every problem found.
    """
    report = Report(str(path))
    try:
        root = parse_yaml(read_text(path))
    except YamlProblemError as exc:
        report.add(exc.mark, "", str(exc))
        raise ManifestError(report.problems) from exc
    if not isinstance(root, Mapping):
        raise ManifestError.of_file(path, "must be a mapping with template: below it")
    of_the_template = ("kind", "protocols", "image", "environment_variables", "code_configuration")
    elsewhere = dict.fromkeys(
        of_the_template, "this is an agent.manifest.yaml: write it below template"
    )
    fields = Fields(root, "", report, _KNOWN, elsewhere)
    fields.require("template", "is missing; write below it what agent.yaml is to hold")
    template = fields.mapping("template", "the fields of an agent.yaml below it, indented")
    if template is not None and not any(key.text == "kind" for key, _ in template.entries):
        report.add(template.mark, "template.kind", "is missing; write kind: hosted")
    parameters = tuple(_parameters(fields, report))
    name = fields.text("name", "my-agent") if "name" in fields else None
    if report.problems or template is None:
        raise ManifestError(report.in_order())
    return Manifest(
        path=path,
        name=name or "",
        template=template,
        parameters=parameters,
        resources=tuple(_resources(fields)),
    )


def _parameters(fields: Fields, report: Report) -> Iterator[Parameter]:
    node = fields.node("parameters")
    if isinstance(node, Mapping):
        inner = {key.text: value for key, value in node.entries}
        node = inner["properties"] if isinstance(inner.get("properties"), Sequence) else node
    if isinstance(node, Mapping):
        for key, value in node.entries:
            yield _parameter(key.text, value, f"parameters.{key.text}", report)
    elif isinstance(node, Sequence):
        for index, value in enumerate(node.items):
            yield _parameter(None, value, f"parameters[{index}]", report)
    elif node is not None:
        fields.report("parameters", f"must be a mapping of names, and is {kind_of(node)}")


def _parameter(name: str | None, node: Node, path: str, report: Report) -> Parameter:
    if not isinstance(node, Mapping):
        # `name: value` is the shortest way to give a default.
        return Parameter(name=name or "", default=node.text if isinstance(node, Scalar) else None)
    fields = Fields(node, path, report, _PARAMETER_KNOWN)
    if name is None:
        fields.require("name", "is missing; write name: my-parameter")
        name = fields.text("name", "my-parameter") or ""
    facts = {key.text: to_data(value) for key, value in node.entries}
    schema = facts.get("schema")
    facts = {**(schema if isinstance(schema, dict) else {}), **facts}
    kind = str(facts.get("type", "string"))
    if kind not in _TYPES:
        fields.report("schema", f'"{kind}" is not a type; it may be {", ".join(_TYPES)}')
    choices = facts.get("enumValues") or facts.get("enum") or []
    default = facts.get("default")
    return Parameter(
        name=name,
        type=kind,
        description=str(facts.get("description") or ""),
        choices=tuple(_text(choice) for choice in choices) if isinstance(choices, list) else (),
        default=None if default is None else _text(default),
        is_required=facts.get("required", True) is not False,
        is_secret=facts.get("secret") is True,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _resources(fields: Fields) -> Iterator[str]:
    node = fields.node("resources")
    for item in node.items if isinstance(node, Sequence) else ():
        if isinstance(item, Mapping):
            facts = {key.text: to_data(value) for key, value in item.entries}
            yield f"{facts.get('kind', 'resource')} {facts.get('name', '')}".strip()


def _emit_mapping(
    node: Mapping, values: MappingOf[str, str], left: dict[str, None], indent: str
) -> Iterator[str]:
    for key, value in node.entries:
        head = f"{indent}{_scalar(key, values, left)}:"
        yield from _emit_value(head, value, values, left, indent)


def _emit_value(
    head: str, value: Node, values: MappingOf[str, str], left: dict[str, None], indent: str
) -> Iterator[str]:
    match value:
        case Scalar():
            yield f"{head} {_scalar(value, values, left)}".rstrip()
        case Mapping(entries=()):
            yield f"{head} {{}}"
        case Sequence(items=()):
            yield f"{head} []"
        case Mapping():
            yield head
            yield from _emit_mapping(value, values, left, f"{indent}  ")
        case Sequence():
            yield head
            for item in value.items:
                yield from _emit_item(item, values, left, f"{indent}  ")


def _emit_item(
    item: Node, values: MappingOf[str, str], left: dict[str, None], indent: str
) -> Iterator[str]:
    if isinstance(item, Mapping) and item.entries:
        first, *more = _emit_mapping(item, values, left, f"{indent}  ")
        yield f"{indent}- {first.lstrip()}"
        yield from more
    elif isinstance(item, Sequence) and item.items:
        yield f"{indent}-"
        for inner in item.items:
            yield from _emit_item(inner, values, left, f"{indent}  ")
    else:
        yield from _emit_value(f"{indent}-", item, values, left, indent)


def _scalar(node: Scalar, values: MappingOf[str, str], left: dict[str, None]) -> str:
    def fill(found: re.Match[str]) -> str:
        # ${{ ... }} is for the service that gets the value.
        if node.text[: found.start()].endswith("$"):
            return found[0]
        name = found[1]
        if name not in values:
            left[name] = None
            return found[0]
        return values[name]

    text = _PLACEHOLDER.sub(fill, node.text)
    if node.is_plain and text == node.text:
        return text
    if _PLAIN.fullmatch(text) and not _NOT_TEXT.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=False)
