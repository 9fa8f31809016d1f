"""Reading and checking ``agent.yaml``.

Everything that is wrong with a file is found in one go and reported with its place. What
the sections hold is in :mod:`trunkline.manifest.sections`.
"""

import difflib
from pathlib import Path, PurePosixPath

from trunkline.manifest.agent import AgentCode, LoadedAgent
from trunkline.manifest.endpoint import AgentCard, AgentEndpoint, Policies
from trunkline.manifest.errors import ManifestError
from trunkline.manifest.fields import Fields, Report, spellings
from trunkline.manifest.placeholders import names_in, placeholder_fault
from trunkline.manifest.sections import (
    PROTOCOLS_EXAMPLE,
    mark_of,
    read_data,
    read_idle_timeout,
    read_metadata,
    read_model,
    read_protocols,
    read_resources,
    read_variables,
)
from trunkline.manifest.vocabulary import (
    DEFAULT_ENTRY_POINT,
    REMOTE_BUILD,
    dependency_resolution_fault,
    image_fault,
    kind_fault,
    name_fault,
    runtime_fault,
)
from trunkline.manifest.yaml_tree import (
    MAX_FILE_BYTES,
    Mapping,
    Scalar,
    YamlProblemError,
    kind_of,
    parse_yaml,
)
from trunkline.protocol.ids import AgentName

AGENT_FILES = ("agent.yaml", "agent.yml")

_LEAST = f"kind: hosted, name: my-agent, protocols: {PROTOCOLS_EXAMPLE} (one a line)"

_KNOWN = spellings(
    "kind",
    "name",
    "display_name",
    "description",
    "metadata",
    "protocols",
    "resources",
    "environment_variables",
    "code_configuration",
    "image",
    "session_configuration",
    "agent_endpoint",
    "agent_card",
    "policies",
    "input_schema",
    "output_schema",
    # The contract has these three in camelCase, alone among the file's fields.
    displayName="display_name",
    inputSchema="input_schema",
    outputSchema="output_schema",
)
_ELSEWHERE = {
    "cpu": 'write it below "resources"',
    "memory": 'write it below "resources"',
    "idle_timeout_seconds": 'write it below "session_configuration"',
    "runtime": 'write it below "code_configuration"',
    "entry_point": 'write it below "code_configuration"',
    "entrypoint": 'write it as "entry_point" below "code_configuration"',
    "dependency_resolution": 'write it below "code_configuration"',
    "template": "this is an agent.manifest.yaml; agent.yaml has the template's fields at its top",
    "services": "this is an azure.yaml; agent.yaml has the service's fields at its top",
}
_CODE_KNOWN = spellings("runtime", "entry_point", "dependency_resolution")


def find_agent_file(folder: Path) -> Path:
    """Return the ``agent.yaml`` or ``agent.yml`` of a folder.

    Raises:
        ManifestError: If there is none, or both.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "doesn't exist"
        raise ManifestError.of_file(folder, f"{what}; name the folder that holds agent.yaml")
    found = [folder / name for name in AGENT_FILES if (folder / name).exists()]
    if len(found) > 1:
        message = "stands next to agent.yml; keep one of the two"
        raise ManifestError.of_file(found[0], message)
    if found:
        return found[0]
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    near = difflib.get_close_matches("agent.yaml", names, n=1, cutoff=0.7)
    hint = f'; is "{near[0]}" meant?' if near else ""
    raise ManifestError.of_file(
        folder,
        f"holds no agent file; looked for {' and '.join(AGENT_FILES)}{hint}. "
        f"Write agent.yaml with at least {_LEAST}",
    )


def load_agent(folder: Path) -> LoadedAgent:
    """Read the agent's file in ``folder`` and check it.

    Raises:
        ManifestError: With every problem found.
    """
    path = find_agent_file(folder)
    report = Report(str(path))
    try:
        root = parse_yaml(read_text(path))
    except YamlProblemError as exc:
        report.add(exc.mark, "", str(exc))
        raise ManifestError(report.problems) from exc
    if root is None:
        raise ManifestError.of_file(path, f"is empty; write at least {_LEAST}")
    if not isinstance(root, Mapping):
        what = kind_of(root)
        report.add(root.mark, "", f"must be a mapping, and is {what}; write at least {_LEAST}")
        raise ManifestError(report.problems)
    agent = read_agent(root, path, report)
    if agent is None or report.problems:
        raise ManifestError(report.in_order())
    return agent


def read_text(path: Path) -> str:
    """Return an author's file, which must be small and UTF-8.

    Raises:
        ManifestError: If it isn't, or can't be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ManifestError.of_file(path, f"can't be read: {exc.strerror}") from exc
    if len(data) > MAX_FILE_BYTES:
        raise ManifestError.of_file(path, "is larger than 1 MiB; an agent file is a few lines")
    try:
        # A byte order mark is what some editors put in front of good UTF-8.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ManifestError.of_file(
            path, f"is not UTF-8 from byte {exc.start} on; save it as UTF-8", line=line
        ) from exc


def read_agent(root: Mapping, path: Path, report: Report) -> LoadedAgent | None:
    """Read what an ``agent.yaml`` holds; None if that was reported to be wrong.

    Args:
        root: The file's tree.
        path: Where it stands, in the agent's folder.
        report: Takes the problems.
    """
    fields = Fields(root, "", report, _KNOWN, _ELSEWHERE)
    kind = fields.text("kind", "hosted")
    if kind is not None and (fault := kind_fault(kind)):
        fields.report("kind", fault)
    fields.require("name", "is missing; write name: my-agent")
    name = fields.text("name", "my-agent")
    if name is not None and (fault := name_fault(name)):
        fields.report("name", fault)
    protocols = read_protocols(fields, report)
    image = _read_image(fields)
    code = _read_code(fields, path.parent, report)
    agent = LoadedAgent(
        path=path,
        name=AgentName(name or ""),
        display_name=fields.text("display_name", "My agent"),
        description=fields.text("description", "Answers calls."),
        metadata=read_metadata(fields, report),
        protocols=protocols,
        resources=read_resources(fields, report),
        environment_variables=read_variables(fields, report),
        code=code,
        image=image,
        idle_timeout_seconds=read_idle_timeout(fields, report),
        agent_endpoint=_read_part(fields, "agent_endpoint", AgentEndpoint, report),
        agent_card=_read_part(fields, "agent_card", AgentCard, report),
        policies=_read_policies(fields, [p.protocol for p in protocols], report),
        input_schema=read_data(fields, "input_schema"),
        output_schema=read_data(fields, "output_schema"),
    )
    return None if report.problems else agent


def _read_image(fields: Fields) -> str | None:
    image = fields.text("image", "registry.example.com/voice:1")
    if image is None:
        return None
    # With a placeholder in it, only the text that comes out can be judged.
    fault = placeholder_fault(image) or (None if names_in(image) else image_fault(image))
    if fault:
        fields.report("image", fault)
    if "code_configuration" in fields:
        fields.report("image", 'stands next to "code_configuration"; keep one of the two')
    return image


def _read_code(fields: Fields, folder: Path, report: Report) -> AgentCode | None:
    node = fields.mapping("code_configuration", "{runtime: python_3_12, entry_point: main.py}")
    if node is None:
        if "image" in fields or "code_configuration" in fields:
            return None
        if entry_point_fault(DEFAULT_ENTRY_POINT, folder):
            example = min((path.name for path in folder.glob("*.py")), default="FILE.py")
            fields.report(
                "code_configuration",
                f'is missing, and there is no file "{DEFAULT_ENTRY_POINT}" to start; '
                f"write code_configuration: {{entry_point: {example}}}",
            )
        return AgentCode()
    inner = Fields(node, "code_configuration", report, _CODE_KNOWN)
    runtime = inner.text("runtime", "python_3_12")
    entry_point = inner.text("entry_point", "main.py")
    resolution = inner.text("dependency_resolution", REMOTE_BUILD)
    if runtime is not None and (fault := runtime_fault(runtime)):
        inner.report("runtime", fault)
    if resolution is not None and (fault := dependency_resolution_fault(resolution)):
        inner.report("dependency_resolution", fault)
    is_readable = entry_point is not None or "entry_point" not in inner
    entry_point = entry_point or DEFAULT_ENTRY_POINT
    if is_readable and "image" not in fields and (fault := entry_point_fault(entry_point, folder)):
        inner.report("entry_point", fault)
    return AgentCode(runtime, str(PurePosixPath(entry_point)), resolution or REMOTE_BUILD)


def entry_point_fault(entry_point: str, folder: Path) -> str | None:
    """Tell what is wrong with the file an agent is started by."""
    if fault := _path_fault(entry_point):
        return fault
    target = folder / PurePosixPath(entry_point)
    if not target.is_file() or target.suffix != ".py":
        return _no_entry_point(entry_point, target, folder)
    if target.resolve().is_relative_to(folder.resolve()):
        return None
    return f'"{entry_point}" is a link out of the agent\'s folder; put the file there'


def _path_fault(entry_point: str) -> str | None:
    path = PurePosixPath(entry_point)
    if path.is_absolute() or "\\" in entry_point or "\0" in entry_point:
        return f'"{entry_point}" is not a path within the agent\'s folder; write such as main.py'
    if ".." in path.parts:
        return f'"{entry_point}" leads out of the agent\'s folder; move the file into it'
    word, _, rest = entry_point.partition(" ")
    if word in ("python", "python3") and rest:
        return f'"{entry_point}" is a command; write the file alone: {rest.strip()}'
    if path.suffix == ".dll":
        return f'"{entry_point}" is a .NET program; trunkline runs Python agents'
    return None


def _no_entry_point(entry_point: str, target: Path, folder: Path) -> str:
    if target.is_file():
        return f'"{entry_point}" is not a Python file; write one that ends in .py'
    if target.is_dir():
        fault = f'"{entry_point}" is a folder; name a file in it'
    else:
        fault = f'there is no file "{entry_point}" in the agent\'s folder'
    names = sorted(path.name for path in folder.glob("*.py"))
    near = difflib.get_close_matches(target.name, [*names, *(n[:-3] for n in names)], n=1)
    if near:
        return f'{fault}; did you mean "{near[0].removesuffix(".py")}.py"?'
    return f"{fault}; it has {', '.join(names[:5])}" if names else fault


def _read_part(
    fields: Fields, name: str, model: type[AgentEndpoint | AgentCard], report: Report
) -> dict[str, object] | None:
    node = fields.mapping(name, "its fields below it, indented")
    if node is None:
        return None
    read = read_model(node, model, report, (name,))
    return None if read is None else read.to_wire()


def _read_policies(
    fields: Fields, protocols: list[str], report: Report
) -> tuple[dict[str, object], ...]:
    node = fields.sequence("policies", "[{type: rai_policy, rai_policy_name: NAME}]")
    if node is None:
        return ()
    # The model wants the list under its name, so that places in it come out right.
    root = Mapping(node.mark, ((Scalar(node.mark, "policies", True), node),))
    read = read_model(root, Policies, report, ())
    if read is None:
        return ()
    for index, policy in enumerate(read.policies):
        if policy.invocations_moderation and "invocations" not in protocols:
            place = f"policies[{index}].invocations_moderation"
            message = 'needs the protocol "invocations"; add it to protocols'
            where = ("policies", index, "invocations_moderation")
            report.add(mark_of(root, where), place, message)
    return tuple(policy.to_wire() for policy in read.policies)
