"""The parts of ``agent.yaml``: each read from its node, and checked."""

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError

from trunkline.manifest.agent import AgentProtocol, AgentResources, AgentVariable
from trunkline.manifest.complaints import complaints, dotted
from trunkline.manifest.endpoint import Lenient, unknown_fields
from trunkline.manifest.fields import Fields, Report, spellings
from trunkline.manifest.placeholders import placeholder_fault
from trunkline.manifest.resources import DEFAULT_CPU, DEFAULT_MEMORY, cpu_fault, memory_fault
from trunkline.manifest.vocabulary import (
    KNOWN_PROTOCOLS,
    LEGACY_PROTOCOLS,
    MAX_METADATA_PAIRS,
    did_you_mean,
    hosted_fault,
    idle_timeout_fault,
    metadata_fault,
    protocol_fault,
    protocol_version_fault,
    variable_name_fault,
    variable_value_fault,
)
from trunkline.manifest.yaml_tree import Mapping, Mark, Node, Scalar, Sequence, kind_of, to_data

ModelT = TypeVar("ModelT", bound=Lenient)

PROTOCOLS_EXAMPLE = "[{protocol: invocations_ws, version: 1.0.0}]"
_VARIABLES_EXAMPLE = "a list such as [{name: GREETING, value: hello}]"


def read_protocols(fields: Fields, report: Report) -> tuple[AgentProtocol, ...]:
    """Read ``protocols``, of which trunkline must carry at least one."""
    fields.require("protocols", f"is missing; write protocols: {PROTOCOLS_EXAMPLE}")
    node = fields.sequence("protocols", PROTOCOLS_EXAMPLE)
    if node is None:
        return ()
    if not node.items:
        fields.report("protocols", f"is empty; write {PROTOCOLS_EXAMPLE}")
    found: dict[str, AgentProtocol] = {}
    before = len(report.problems)
    for entry in _entries(node, fields.path("protocols"), report, ("protocol", "version")):
        protocol = _read_protocol(entry)
        if protocol is None:
            continue
        if protocol.protocol in found:
            entry.report("protocol", f'"{protocol.protocol}" is listed twice; keep one')
        found[protocol.protocol] = protocol
    if found and len(report.problems) == before and (fault := hosted_fault(found)):
        fields.report("protocols", fault)
    return tuple(found.values())


def _read_protocol(entry: Fields) -> AgentProtocol | None:
    entry.require("protocol", "is missing; write protocol: invocations_ws")
    name = entry.text("protocol", "invocations_ws")
    version = entry.text("version", "1.0.0")
    if version is not None and (fault := protocol_version_fault(version)):
        entry.report("version", fault)
    if name is None:
        return None
    if fault := protocol_fault(name):
        entry.report("protocol", fault)
        return None
    name = LEGACY_PROTOCOLS.get(name, name)
    return AgentProtocol(name, version or KNOWN_PROTOCOLS[name])


def read_resources(fields: Fields, report: Report) -> AgentResources:
    """Read ``resources``."""
    node = fields.mapping("resources", '{cpu: "1", memory: 2Gi}')
    if node is None:
        return AgentResources()
    inner = Fields(node, fields.path("resources"), report, spellings("cpu", "memory"))
    cpu = inner.text("cpu", '"1"') or DEFAULT_CPU
    memory = inner.text("memory", "2Gi") or DEFAULT_MEMORY
    if fault := cpu_fault(cpu):
        inner.report("cpu", fault)
    if fault := memory_fault(memory):
        inner.report("memory", fault)
    return AgentResources(cpu, memory)


def read_variables(fields: Fields, report: Report) -> tuple[AgentVariable, ...]:
    """Read ``environment_variables``."""
    node = fields.sequence("environment_variables", _VARIABLES_EXAMPLE)
    if node is None:
        return ()
    found: dict[str, AgentVariable] = {}
    path = fields.path("environment_variables")
    for entry in _entries(node, path, report, ("name", "value")):
        entry.require("name", "is missing; write name: GREETING")
        entry.require("value", 'is missing; write value: "" for an empty one')
        name = entry.text("name", "GREETING")
        value = _variable_value(entry)
        if name is None:
            continue
        if fault := variable_name_fault(name):
            entry.report("name", fault)
        elif name in found:
            entry.report("name", f'"{name}" is listed twice; keep one')
        else:
            found[name] = AgentVariable(name, value)
    return tuple(found.values())


def _variable_value(entry: Fields) -> str:
    node = entry.node("value")
    if node is None:
        return ""
    # Unlike other texts it may be blank, if it was written in quotes.
    if not isinstance(node, Scalar) or node.value is None:
        hint = 'write value: ""' if isinstance(node, Scalar) else "put it in quotes"
        entry.report("value", f"must be text, and is {kind_of(node)}; {hint}")
        return ""
    if fault := placeholder_fault(node.text) or variable_value_fault(node.text):
        entry.report("value", fault)
    return node.text


def read_idle_timeout(fields: Fields, report: Report) -> int | None:
    """Read ``session_configuration.idle_timeout_seconds``."""
    node = fields.mapping("session_configuration", "{idle_timeout_seconds: 900}")
    if node is None:
        return None
    path = fields.path("session_configuration")
    inner = Fields(node, path, report, spellings("idle_timeout_seconds"))
    value = inner.node("idle_timeout_seconds")
    if value is None:
        return None
    seconds = value.value if isinstance(value, Scalar) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        message = f"must be a whole number of seconds, and is {kind_of(value)}; write such as 900"
        inner.report("idle_timeout_seconds", message)
        return None
    if fault := idle_timeout_fault(seconds):
        inner.report("idle_timeout_seconds", fault)
    return seconds


def read_metadata(fields: Fields, report: Report) -> dict[str, str]:
    """Read ``metadata``, with each list made one text."""
    node = fields.mapping("metadata", "{team: voice}")
    if node is None:
        return {}
    path = fields.path("metadata")
    found: dict[str, str] = {}
    for key, value in node.entries:
        where = f"{path}.{key.text}"
        items = value.items if isinstance(value, Sequence) else (value,)
        if all(isinstance(item, Scalar) and item.value is not None for item in items):
            text = ",".join(item.text for item in items if isinstance(item, Scalar))
            if fault := metadata_fault({key.text: text}):
                report.add(value.mark, where, fault)
            found[key.text] = text
        else:
            wanted = "must be text or a list of texts"
            report.add(value.mark, where, f"{wanted}, and is {kind_of(value)}")
    if len(found) > MAX_METADATA_PAIRS:
        fields.report("metadata", f"has {len(found)} pairs; {MAX_METADATA_PAIRS} are allowed")
    return found


def read_data(fields: Fields, name: str) -> dict[str, Any] | None:
    """Read a mapping that is kept as it is."""
    node = fields.mapping(name, "its fields below it, indented")
    return None if node is None else to_data(node)


def read_model(
    node: Node, model: type[ModelT], report: Report, path: tuple[str | int, ...]
) -> ModelT | None:
    """Check a node against one of the wire's models.

    Args:
        node: What to check.
        model: The model. Fields it doesn't know are reported here, where a person typed them.
        report: Takes the problems, each at the line of the part that is wrong.
        path: The place of ``node`` in the file.
    """
    try:
        read = model.model_validate(to_data(node))
    except ValidationError as exc:
        for where, message in complaints(exc):
            report.add(mark_of(node, where), dotted((*path, *where)), message)
        read = None
    # Deeper unknown fields are only found in a model that could be made.
    unknown = unknown_fields(read) if read else _unknown_at_top(node, tuple(model.model_fields))
    for where, known in unknown:
        message = f"is not a field; {did_you_mean(str(where[-1]), known)}"
        report.add(mark_of(node, where, key=True), dotted((*path, *where)), message)
    return read


def _unknown_at_top(
    node: Node, known: tuple[str, ...]
) -> Iterator[tuple[tuple[str | int, ...], tuple[str, ...]]]:
    entries = node.entries if isinstance(node, Mapping) else ()
    return (((key.text,), known) for key, _ in entries if key.text not in known)


def mark_of(node: Node, where: tuple[str | int, ...], *, key: bool = False) -> Mark:
    """Return where a part of ``node`` stands, or the nearest thing around it."""
    mark = node.mark
    for part in where:
        if isinstance(node, Mapping):
            pair = next((entry for entry in node.entries if entry[0].text == part), None)
            if pair is None:
                return mark
            node = pair[1]
            mark = pair[0].mark if key else node.mark
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            mark = node.mark
        else:
            return mark
    return mark


def _entries(node: Sequence, path: str, report: Report, names: tuple[str, str]) -> Iterator[Fields]:
    """Return the fields of each mapping in a list, and report the items that are none."""
    for index, item in enumerate(node.items):
        place = f"{path}[{index}]"
        if isinstance(item, Mapping):
            yield Fields(item, place, report, spellings(*names))
            continue
        word = item.text if isinstance(item, Scalar) and item.text else "..."
        message = f"must be a mapping, and is {kind_of(item)}; write {names[0]}: {word}"
        report.add(item.mark, place, message)
