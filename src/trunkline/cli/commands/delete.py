"""``trunkline delete``: an agent, or one version of it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from trunkline.cli import options, output
from trunkline.cli.output import Format
from trunkline.cli.projects import key_of
from trunkline.cli.running import run
from trunkline.cli.target import Where
from trunkline.manifest.env_files import Environments, find_project_root

app = options.command_app()


@app.command(
    epilog=options.examples(
        "trunkline delete echo",
        "trunkline delete echo --version 2",
        "trunkline delete echo --force --yes",
    )
)
def delete(  # noqa: PLR0913 - one parameter per option
    agent: options.AgentArgument,
    *,
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", help="This version alone.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Even with sessions, which are deleted as well.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Delete an agent with all its versions, or one version.

    Where there are sessions it takes --force. It asks first, unless told not to with --yes.
    """
    what = f'version "{version}" of agent "{agent}"' if version else f'agent "{agent}"'
    if not (yes or force):
        if not sys.stdin.isatty():
            raise typer.BadParameter(f"say --yes to delete {what} without being asked")
        typer.confirm(f"Delete {what}? It can't be undone", abort=True, err=True)
    where = Where(endpoint=endpoint, state_dir=state_dir, insecure_http=insecure_http)

    async def work() -> None:
        async with where.open() as project:
            if version is None:
                await project.delete_agent(agent, force=force)
            else:
                await project.delete_version(agent, version, force=force)

    run(work())
    _forget(agent, version)
    if output_format is Format.JSON:
        output.put_json({"name": agent, "version": version, "deleted": True})
    else:
        output.put(f"{what[0].upper()}{what[1:]} deleted.")


def _forget(agent: str, version: str | None) -> None:
    """Take back what `deploy` kept of it."""
    environments = Environments(find_project_root(Path.cwd()))
    key = f"AGENT_{key_of(agent)}_"
    values = environments.values()
    kept = [name for name in values if name.startswith(key)]
    if kept and (version is None or values.get(f"{key}VERSION") == version):
        environments.unset(kept)
