"""``trunkline deploy``: a folder becomes a version of an agent."""

from pathlib import Path
from typing import Annotated, Any

import typer

from trunkline.cli import options, output
from trunkline.cli.commands.agents import agent_endpoints, version_document
from trunkline.cli.output import Format
from trunkline.cli.progress import Progress
from trunkline.cli.running import run
from trunkline.cli.target import open_project
from trunkline.client import BuildFailedError, Endpoint, Project, Version
from trunkline.manifest.agent import LoadedAgent
from trunkline.manifest.agent_yaml import load_agent
from trunkline.manifest.definition import definition_from_agent
from trunkline.manifest.env_files import Environments, find_project_root
from trunkline.manifest.package import CodePackage, package_folder
from trunkline.protocol.errors import TrunklineError

app = options.command_app()

_LOG_LINES = 40
_KIB = 1024


@app.command()
def deploy(  # noqa: PLR0913 - one parameter per option
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder with the agent.yaml.")
    ] = Path(),
    *,
    environment: Annotated[
        str | None,
        typer.Option(
            "--environment", "-e", metavar="NAME", help="The values to fill in. Else the selected."
        ),
    ] = None,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout-s", metavar="S", min=1, help="How long to wait for the build."),
    ] = 900,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Deploy the agent in a folder, and wait until its version is active.

    Prints "NAME VERSION ENDPOINT". New sessions run the new version; open ones stay.
    """
    agent = load_agent(folder)
    description = _describe(agent, environment)

    async def work() -> tuple[Endpoint, Version]:
        async with open_project(endpoint, state_dir, insecure_http=insecure_http) as project:
            with Progress() as progress:
                version = await _upload(project, agent, description, progress)
                version = await _wait(project, version, timeout_s, progress)
            return project.endpoint, version

    where, version = run(work())
    for text in version.notes:
        output.note(f"note: {text}")
    if output_format is Format.JSON:
        output.put_json(version_document(where, version))
    else:
        output.put(f"{version.name} {version.version} {main_endpoint(where, version)}")


def main_endpoint(endpoint: Endpoint, version: Version) -> str:
    """Return the one address to print: the WebSocket's, unless the agent has only HTTP."""
    urls = agent_endpoints(endpoint, version)
    return urls.get("invocations_ws") or urls.get("invocations") or endpoint.agent_url(version.name)


def _describe(agent: LoadedAgent, environment: str | None) -> dict[str, Any]:
    request, unset = definition_from_agent(agent, _values_for(agent.folder, environment))
    for name in unset:
        output.warn(f"{name} isn't set and became empty: `trunkline env set {name} VALUE` sets it")
    return {key: value for key, value in request.to_wire().items() if key != "name"}


def _values_for(folder: Path, environment: str | None) -> dict[str, str]:
    # What was set where the command runs, and over it what was set with the agent itself.
    roots = dict.fromkeys((find_project_root(Path.cwd()), find_project_root(folder)))
    values: dict[str, str] = {}
    for root in roots:
        values |= Environments(root).values(environment)
    return values


async def _upload(
    project: Project, agent: LoadedAgent, description: dict[str, Any], progress: Progress
) -> Version:
    if agent.code is None:
        progress.step(f"creating a version of {agent.name} from {agent.image}")
        return await project.create_version(agent.name, description)
    progress.step(f"packaging {agent.folder}")
    with package_folder(agent.folder, required=[agent.code.entry_point]) as package:
        progress.step(f"uploading {agent.name}: {_size(package)}")
        return await project.create_version(agent.name, description, package.file)


def _size(package: CodePackage) -> str:
    count = len(package.files)
    return f"{count} file{'s' * (count != 1)}, {package.size_bytes / _KIB:.1f} KiB"


async def _wait(
    project: Project, version: Version, timeout_s: float, progress: Progress
) -> Version:
    if not version.is_building and version.state == "active":
        progress.step(f"version {version.version} is active")
        return version
    progress.step(f"building version {version.version}")
    try:
        return await project.wait_until_active(version, timeout_s=timeout_s)
    except BuildFailedError as exc:
        await _show_log(project, exc.version)
        raise


async def _show_log(project: Project, version: Version) -> None:
    try:
        text = await project.get_build_log(version.name, version.version)
    except TrunklineError:
        # Not every platform keeps one, and what failed is told anyway.
        return
    lines = text.rstrip().splitlines()
    if len(lines) > _LOG_LINES:
        output.note(f"the build's last {_LOG_LINES} lines of {len(lines)}:")
    for line in lines[-_LOG_LINES:]:
        output.say(line)
