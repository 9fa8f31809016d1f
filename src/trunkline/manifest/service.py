"""Reading an agent from the service block of an ``azure.yaml``.

The block is turned into the tree that an ``agent.yaml`` with the same content would have, each
value still at its place in the file, and read as that. What isn't spelt as the contract has it
is reported here, with the words ``azure.yaml`` uses.
"""

import dataclasses
import re
from collections.abc import Mapping as MappingOf
from pathlib import Path

from trunkline.manifest.agent import LoadedAgent
from trunkline.manifest.agent_yaml import AGENT_FILES, load_agent, read_agent, read_text
from trunkline.manifest.errors import ManifestError, Problem
from trunkline.manifest.fields import Fields, Report, spellings
from trunkline.manifest.vocabulary import nearest
from trunkline.manifest.yaml_tree import (
    Mapping,
    Mark,
    Node,
    Scalar,
    Sequence,
    YamlProblemError,
    kind_of,
    parse_yaml,
)

PROJECT_FILES = ("azure.yaml", "azure.yml")
HOST = "azure.ai.agent"

#: Fields that say where and how, not what the agent is.
_AROUND = frozenset({"host", "project", "language", "uses", "hooks", "config"})
#: Fields taken over under another name.
_RENAMED: MappingOf[str, str] = {
    "kind": "kind",
    "name": "name",
    "displayName": "display_name",
    "description": "description",
    "metadata": "metadata",
    "protocols": "protocols",
    "image": "image",
    "policies": "policies",
    "inputSchema": "input_schema",
    "outputSchema": "output_schema",
}
_OWN = ("env", "environmentVariables", "container", "docker", "codeConfiguration", "runtime",
        "startupCommand", "agentEndpoint", "agentCard", "sessionConfiguration")  # fmt: skip
#: The contract has them, and trunkline has nothing to do with them.
_UNUSED = frozenset({"memoryStores", "toolConnections"})
_KNOWN = (*_AROUND, *_RENAMED, *_OWN, *_UNUSED)
#: What the tree below is made of, as ``agent.yaml`` spells it.
_TRANSLATED = frozenset(
    {
        *_RENAMED.values(),
        "environment_variables",
        "resources",
        "code_configuration",
        "agent_endpoint",
        "agent_card",
        "session_configuration",
    }
)
_NEEDS_SNAKE = re.compile(r"(?<=[a-z0-9])([A-Z])")


def find_project_file(folder: Path) -> Path | None:
    """Return the ``azure.yaml`` of a folder, if it has one."""
    return next((folder / name for name in PROJECT_FILES if (folder / name).is_file()), None)


def list_services(path: Path) -> tuple[str, ...]:
    """Return the names of the agents in an ``azure.yaml``.

    Raises:
        ManifestError: If it can't be read.
    """
    return tuple(name for name, _ in _agents(_services(path), path))


def load_service(path: Path, service: str | None = None) -> LoadedAgent:
    """Read one agent from an ``azure.yaml``.

    Args:
        path: The file.
        service: The service's name; it may be left out if there is one agent only.

    Raises:
        ManifestError: With every problem found in the block, or if it isn't clear which is meant.
    """
    agents = dict(_agents(_services(path), path))
    if service is None and len(agents) == 1:
        service = next(iter(agents))
    names = ", ".join(agents) or "none"
    if service is None:
        raise ManifestError.of_file(path, f"has more than one agent; name one of {names}")
    if service not in agents:
        near = nearest(service, agents)
        hint = f'; did you mean "{near}"?' if near else f"; there is {names}"
        raise ManifestError.of_file(path, f'has no agent "{service}"{hint}')
    return _load(path, service, agents[service])


def _services(path: Path) -> Mapping:
    report = Report(str(path))
    try:
        root = parse_yaml(read_text(path))
    except YamlProblemError as exc:
        report.add(exc.mark, "", str(exc))
        raise ManifestError(report.problems) from exc
    if not isinstance(root, Mapping):
        raise ManifestError.of_file(path, "must be a mapping with services: below it")
    for key, value in root.entries:
        if key.text == "services" and isinstance(value, Mapping):
            return value
    raise ManifestError.of_file(
        path, f"has no services; write services: {{my-agent: {{host: {HOST}, project: ./src}}}}"
    )


def _agents(services: Mapping, path: Path) -> list[tuple[str, Mapping]]:
    found = []
    for key, value in services.entries:
        if not isinstance(value, Mapping):
            problem = Problem(
                str(path), value.mark.line, value.mark.column, f"services.{key.text}",
                f"must be a mapping, and is {kind_of(value)}",
            )  # fmt: skip
            raise ManifestError([problem])
        host = _text_of(value, "host")
        if host == HOST:
            found.append((key.text, value))
    return found


def _load(path: Path, service: str, block: Mapping) -> LoadedAgent:
    folder = path.parent / (_text_of(block, "project") or ".")
    is_elsewhere = not any(key.text == "protocols" for key, _ in block.entries)
    if is_elsewhere and any((folder / name).is_file() for name in AGENT_FILES):
        # The older way, still read: the definition is a file of its own.
        return load_agent(folder)
    own, inner = Report(str(path)), Report(str(path))
    tree = _translate(service, block, own)
    agent = read_agent(tree, folder / path.name, inner)
    if agent is None or own.problems or inner.problems:
        found = [(p, p.field) for p in own.problems] + [(p, _path(p.field)) for p in inner.problems]
        place = f"services.{service}"
        problems = [
            dataclasses.replace(problem, field=f"{place}.{field}".removesuffix("."))
            for problem, field in found
        ]
        raise ManifestError(sorted(problems, key=lambda problem: (problem.line, problem.column)))
    return agent


def _translate(service: str, block: Mapping, report: Report) -> Mapping:
    entries: list[tuple[Scalar, Node]] = []
    values = {key.text: (key, value) for key, value in block.entries}
    for name, (key, _) in values.items():
        if name not in _KNOWN:
            report.add(key.mark, name, _unknown(name))
    for name, (key, value) in values.items():
        if name in _RENAMED:
            entries.append((_renamed(key, _RENAMED[name]), value))
        elif name in ("agentEndpoint", "agentCard", "sessionConfiguration"):
            entries.append((_renamed(key, _snake(name)), _snake_keys(value)))
    if "name" not in values:
        entries.append((Scalar(block.mark, "name", True), Scalar(block.mark, service, False)))
    for name in ("env", "environmentVariables"):
        if name in values:
            key, value = values[name]
            entries.append((_renamed(key, "environment_variables"), _variables(value)))
    if "container" in values:
        key, value = values["container"]
        if isinstance(value, Mapping):
            entries += [(k, v) for k, v in value.entries if k.text == "resources"]
        else:
            report.add(value.mark, "container", "must be a mapping; write {resources: {cpu: ...}}")
    entries += _code(values, report)
    return Mapping(block.mark, tuple(entries))


def _code(values: MappingOf[str, tuple[Scalar, Node]], report: Report) -> list[tuple[Scalar, Node]]:
    if "codeConfiguration" in values:
        key, value = values["codeConfiguration"]
        return [(_renamed(key, "code_configuration"), _snake_keys(value))]
    if "docker" in values and "image" not in values:
        key, _ = values["docker"]
        report.add(
            key.mark,
            "docker",
            "needs an image that is built already: trunkline builds none; write image:, "
            "or codeConfiguration: {entryPoint: main.py}",
        )
        return []
    parts: list[tuple[Scalar, Node]] = []
    if "runtime" in values:
        key, value = values["runtime"]
        fields = Fields(
            value if isinstance(value, Mapping) else Mapping(value.mark, ()),
            "runtime",
            report,
            spellings("stack", "version", remoteBuild="remoteBuild"),
        )
        stack, version = fields.text("stack", "python"), fields.text("version", '"3.12"')
        text = f"{stack or 'python'}_{(version or '').replace('.', '_')}".rstrip("_")
        parts.append((_renamed(key, "runtime"), Scalar(value.mark, text, False)))
    if "startupCommand" in values:
        key, value = values["startupCommand"]
        text = value.text if isinstance(value, Scalar) else ""
        entry_point = re.sub(r"^python3?\s+", "", text.strip())
        parts.append((_renamed(key, "entry_point"), Scalar(value.mark, entry_point, False)))
    if not parts:
        return []
    mark = parts[0][0].mark
    return [(Scalar(mark, "code_configuration", True), Mapping(mark, tuple(parts)))]


def _variables(node: Node) -> Node:
    """Return a mapping of variables as the list ``agent.yaml`` has."""
    if not isinstance(node, Mapping):
        return node
    return Sequence(
        node.mark,
        tuple(
            Mapping(
                key.mark,
                (
                    (Scalar(key.mark, "name", True), Scalar(key.mark, key.text, False)),
                    (Scalar(value.mark, "value", True), value),
                ),
            )
            for key, value in node.entries
        ),
    )


def _snake_keys(node: Node) -> Node:
    match node:
        case Mapping():
            return Mapping(
                node.mark,
                tuple(
                    (_renamed(key, _snake(key.text)), _snake_keys(value))
                    for key, value in node.entries
                ),
            )
        case Sequence():
            return Sequence(node.mark, tuple(_snake_keys(item) for item in node.items))
        case Scalar():
            return node


def _snake(word: str) -> str:
    return _NEEDS_SNAKE.sub(r"_\1", word).lower()


def _path(field: str) -> str:
    """Return a place as this file spells it; what isn't a field of ``agent.yaml`` stays."""
    head, dot, rest = field.partition(".")
    if head in _KNOWN or head.partition("[")[0] not in _TRANSLATED:
        return field
    camel = re.sub(r"_([a-z])", lambda match: match[1].upper(), head)
    return f"{camel}{dot}{re.sub(r'_([a-z])', lambda match: match[1].upper(), rest)}"


def _renamed(key: Scalar, name: str) -> Scalar:
    return Scalar(Mark(key.mark.line, key.mark.column), name, is_plain=True)


def _text_of(block: Mapping, name: str) -> str | None:
    for key, value in block.entries:
        if key.text == name and isinstance(value, Scalar):
            return value.text
    return None


def _unknown(name: str) -> str:
    if name == "$ref":
        return "is not read by trunkline; write the fields here, or an agent.yaml in the project"
    camel = re.sub(r"_([a-z])", lambda match: match[1].upper(), name)
    if camel in _KNOWN:
        return f'is not a field; azure.yaml spells it "{camel}"'
    near = nearest(name, _KNOWN)
    if near is not None:
        return f'is not a field; did you mean "{near}"?'
    return f"is not a field; there are {', '.join(_KNOWN)}"
