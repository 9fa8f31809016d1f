"""``trunkline deploy``: a folder becomes a version of an agent."""

import asyncio
from typing import Annotated, Any

import typer

from trunkline.aio.tasks import TaskOwner
from trunkline.cli import options, output
from trunkline.cli.commands.agents import agent_endpoints, version_document
from trunkline.cli.output import Format
from trunkline.cli.progress import Progress
from trunkline.cli.projects import key_of, load_named, values_for
from trunkline.cli.running import run
from trunkline.cli.target import open_project
from trunkline.client import BuildFailedError, Endpoint, Project, Version
from trunkline.manifest.agent import LoadedAgent
from trunkline.manifest.definition import definition_from_agent
from trunkline.manifest.env_files import Environments, find_project_root
from trunkline.manifest.errors import ManifestError
from trunkline.manifest.package import CodePackage, package_folder
from trunkline.protocol.errors import TrunklineError

app = options.command_app()

_LOG_LINES = 40
_LOG_PAUSE_S = 0.5
_KIB = 1024


@app.command(
    epilog=options.examples(
        "trunkline deploy",
        "trunkline deploy ./my-agent --environment prod",
        "trunkline deploy my-voice-agent      (a service of the azure.yaml here)",
    )
)
def deploy(  # noqa: PLR0913 - one parameter per option
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[DIR|NAME]",
            help="The agent's folder, or a service of the project's azure.yaml.",
            show_default=False,
        ),
    ] = None,
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
    has_log: Annotated[
        bool, typer.Option("--build-log", help="Show what the build prints, as it prints it.")
    ] = False,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Deploy the agent in a folder, and wait until its version is active.

    Prints "NAME VERSION ENDPOINT". New sessions run the new version; open ones stay. What was
    deployed is kept as AGENT_NAME_VERSION and the like in the selected environment.
    """
    agent = load_named(target)
    description = _describe(agent, environment)

    async def work() -> tuple[Endpoint, Version]:
        async with open_project(endpoint, state_dir, insecure_http=insecure_http) as project:
            with Progress(is_plain=has_log) as progress:
                version = await _upload(project, agent, description, progress)
                progress.step(f"building version {version.version}")
                version = await _wait(project, version, timeout_s, has_log=has_log)
                progress.step(f"version {version.version} is active")
            return project.endpoint, version

    where, version = run(work())
    _keep(agent, where, version, environment)
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
    request, unset = definition_from_agent(agent, values_for(agent.folder, environment))
    for name in unset:
        output.warn(f"{name} isn't set and became empty: `trunkline env set {name} VALUE` sets it")
    return {key: value for key, value in request.to_wire().items() if key != "name"}


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


def _keep(agent: LoadedAgent, where: Endpoint, version: Version, environment: str | None) -> None:
    """Keep what was deployed where the placeholders of other agents find it."""
    key = f"AGENT_{key_of(agent.name)}"
    project = f"{where.agent_url(agent.name)}/versions/{version.version}"
    values = {
        f"{key}_NAME": version.name,
        f"{key}_VERSION": version.version,
        f"{key}_ENDPOINT": project,
        f"{key}_PROJECT_ENDPOINT": where.url,
    }
    for protocol, url in agent_endpoints(where, version).items():
        values[f"{key}_{protocol.upper()}_ENDPOINT"] = url
    try:
        Environments(find_project_root(agent.folder)).set(values, environment)
    except (OSError, ManifestError) as exc:
        output.warn(f"{key}_VERSION and the like weren't kept: {exc}")


async def _wait(project: Project, version: Version, timeout_s: float, *, has_log: bool) -> Version:
    log = _BuildLog(project, version)
    tasks = TaskOwner()
    if has_log:
        tasks.spawn(log.follow(), name="deploy:log")
    try:
        return await project.wait_until_active(version, timeout_s=timeout_s)
    except BuildFailedError:
        if not has_log:
            await log.show_end()
        raise
    finally:
        await tasks.aclose()
        if has_log:
            await log.show_new()


class _BuildLog:
    """What is printed while a version is built. Not every platform keeps it."""

    def __init__(self, project: Project, version: Version) -> None:
        self._project = project
        self._version = version
        self._shown = 0

    async def follow(self) -> None:
        """Show what is new, again and again, until cancelled."""
        while True:
            await self.show_new()
            await asyncio.sleep(_LOG_PAUSE_S)

    async def show_new(self) -> None:
        """Show the lines that weren't shown yet."""
        lines = await self._lines()
        for line in lines[self._shown :]:
            output.say(line)
        self._shown = max(self._shown, len(lines))

    async def show_end(self) -> None:
        """Show the last lines."""
        lines = await self._lines()
        if len(lines) > _LOG_LINES:
            output.note(
                f"the build's last {_LOG_LINES} lines of {len(lines)} (--build-log shows all):"
            )
        for line in lines[-_LOG_LINES:]:
            output.say(line)

    async def _lines(self) -> list[str]:
        try:
            text = await self._project.get_build_log(self._version.name, self._version.version)
        except TrunklineError:
            # What failed is told anyway.
            return []
        return text.rstrip().splitlines()
