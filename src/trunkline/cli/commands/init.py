"""``trunkline init``: an agent's folder, from a template, a manifest, or code that is there."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from trunkline.cli import options, output
from trunkline.cli.fetching import fetched_manifest, is_web_address
from trunkline.cli.output import Format
from trunkline.cli.scaffold import (
    TEMPLATES,
    InitError,
    NewFile,
    agent_yaml,
    find_code,
    name_for,
    template_files,
    write_all,
)
from trunkline.manifest.agent_yaml import AGENT_FILES, load_agent
from trunkline.manifest.env_files import parse_assignment
from trunkline.manifest.errors import ManifestError
from trunkline.manifest.package import package_folder
from trunkline.manifest.template import MANIFEST_FILES, Manifest, Parameter, load_manifest
from trunkline.manifest.vocabulary import (
    HOSTED_PROTOCOLS,
    did_you_mean,
    image_fault,
    name_fault,
)
from trunkline.protocol.errors import InvalidRequestError

app = options.command_app()


@app.command(
    epilog=options.examples(
        "trunkline init my-agent",
        "trunkline init my-agent --template chat",
        "trunkline init -m ../samples/agent.manifest.yaml --param model=small",
        "cd existing-code && trunkline init",
    )
)
def init(  # noqa: PLR0913 - one parameter per option
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", show_default=False)] = Path(),
    *,
    template: Annotated[
        str | None,
        typer.Option("--template", metavar="NAME", help=f"One of {', '.join(TEMPLATES)}."),
    ] = None,
    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest", "-m", metavar="F", help="An agent.manifest.yaml to fill in: path or URL."
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=VALUE", help="A value the manifest asks for."),
    ] = None,
    agent_name: Annotated[
        str | None,
        typer.Option("--agent-name", metavar="NAME", help="The agent's name. Else the folder's."),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option("--protocol", metavar="NAME", help="A protocol the code speaks."),
    ] = None,
    entry_point: Annotated[
        str | None,
        typer.Option("--entry-point", metavar="FILE.py", help="The file that starts the code."),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="REF", help="A container image instead of code."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    no_prompt: Annotated[bool, typer.Option("--no-prompt", help="Ask nothing.")] = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Make an agent's folder: from a template, from a manifest, or around code that is there.

    In a folder with Python files it writes the agent.yaml they need; elsewhere it takes the
    template "echo". Nothing that is there is replaced without --force.
    """
    name = agent_name or name_for(folder)
    if fault := name_fault(name):
        raise InvalidRequestError(fault)
    if manifest is not None:
        new = _from_manifest(manifest, param or [], folder, no_prompt=no_prompt)
    elif template is not None:
        if template not in TEMPLATES:
            wanted = did_you_mean(template, TEMPLATES)
            raise InvalidRequestError(f"there is no template {template!r}; {wanted}")
        new = template_files(template, name)
    elif image is not None or entry_point is not None or any(folder.glob("*.py")):
        new = _around_code(folder, name, tuple(protocol or ()), entry_point, image)
    else:
        new = template_files("echo", name)
    write_all(folder, new, force=force)
    named = _name_of(folder, may_lack_code=manifest is not None and is_web_address(manifest))
    if output_format is Format.JSON:
        output.put_json(
            {"name": named, "folder": str(folder), "files": [file.path for file in new]}
        )
        return
    for file in new:
        output.put(str(folder / file.path))
    inside = "" if folder == Path() else f"cd {folder} && "
    output.say(f"next: `{inside}trunkline run` runs it here; `trunkline deploy` deploys it")


def _name_of(folder: Path, *, may_lack_code: bool) -> str | None:
    """Check what was written, and return the agent's name."""
    try:
        return load_agent(folder).name
    except ManifestError as exc:
        if not may_lack_code:
            raise
        # An address brings the manifest alone.
        output.warn(f"the agent isn't whole yet: put its code into {folder}\n{exc}")
        return None


def _around_code(
    folder: Path, name: str, protocols: tuple[str, ...], entry_point: str | None, image: str | None
) -> list[NewFile]:
    for word in protocols:
        if word not in HOSTED_PROTOCOLS:
            raise InvalidRequestError(
                f"{word!r} is not a protocol trunkline carries; "
                f"{did_you_mean(word, HOSTED_PROTOCOLS)}"
            )
    if image is not None:
        if fault := image_fault(image):
            raise InvalidRequestError(fault)
        if entry_point is not None:
            raise typer.BadParameter("give either --image or --entry-point, not both")
        text = agent_yaml(name, protocols or ("invocations_ws",), None, image)
        return [NewFile("agent.yaml", text.encode())]
    code = find_code(folder, entry_point)
    protocols = protocols or code.protocols
    if not protocols:
        raise InitError(
            f"{code.entry_point} registers no handler that tells its protocol: "
            "say which it speaks with --protocol invocations_ws"
        )
    output.note(f"{code.entry_point} speaks {', '.join(protocols)}")
    if not code.has_requirements:
        output.note("no requirements.txt: write one if the code needs more than trunkline")
    return [NewFile("agent.yaml", agent_yaml(name, protocols, code.entry_point, None).encode())]


def _from_manifest(where: str, given: list[str], folder: Path, *, no_prompt: bool) -> list[NewFile]:
    if is_web_address(where):
        with fetched_manifest(where) as path:
            return _filled_in(path, given, no_prompt=no_prompt)
    path = Path(where)
    if path.is_dir():
        found = [path / name for name in MANIFEST_FILES if (path / name).is_file()]
        if not found:
            raise InitError(f"{path} holds no agent.manifest.yaml: name the file")
        path = found[0]
    new = _filled_in(path, given, no_prompt=no_prompt)
    if path.parent.resolve() != folder.resolve():
        new += _beside(path)
    return new


def _filled_in(path: Path, given: list[str], *, no_prompt: bool) -> list[NewFile]:
    manifest = load_manifest(path)
    values = dict(parse_assignment(word) for word in given)
    if not no_prompt and sys.stdin.isatty():
        values |= _ask(manifest, values)
    filled = manifest.fill(values)
    for name in filled.left:
        output.warn(f"{{{{{name}}}}} is left in agent.yaml: the manifest has no such parameter")
    for resource in manifest.resources:
        output.note(f"the manifest wants {resource}: see that the agent can reach one")
    return [NewFile("agent.yaml", filled.text.encode())]


def _beside(manifest: Path) -> list[NewFile]:
    """Return the manifest's own files: the code it describes."""
    # What a deploy would leave out, is left out here as well.
    with package_folder(manifest.parent) as package:
        paths = [file.path for file in package.files]
    not_taken = {*AGENT_FILES, *MANIFEST_FILES}
    return [
        NewFile(path, (manifest.parent / path).read_bytes())
        for path in paths
        if path not in not_taken
    ]


def _ask(manifest: Manifest, given: dict[str, str]) -> dict[str, str]:
    answers = {}
    for parameter in manifest.parameters:
        if parameter.name not in given:
            answer = _ask_one(parameter)
            if answer or parameter.default is None:
                answers[parameter.name] = answer
    return answers


def _ask_one(parameter: Parameter) -> str:
    while True:
        answer = str(
            typer.prompt(
                parameter.name + (f" ({parameter.description})" if parameter.description else ""),
                default=parameter.default or ("" if not parameter.is_required else None),
                hide_input=parameter.is_secret,
                show_choices=bool(parameter.choices),
                err=True,
            )
        )
        try:
            parameter.check(answer)
        except InvalidRequestError as exc:
            output.say(str(exc))
        else:
            return answer
