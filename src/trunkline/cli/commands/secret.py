"""``trunkline secret``: what a project keeps for its agents, and shows to nobody."""

import sys
from getpass import getpass
from typing import Annotated

import typer

from trunkline.cli import options, output
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.tables import put_table, time_text
from trunkline.cli.target import open_project
from trunkline.client import SecretName
from trunkline.protocol.errors import InvalidRequestError

app = options.command_app("Keep what a project's agents need and nobody should see.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The secret's name.")]


@app.command("set", epilog=options.examples("trunkline secret set API_KEY < key.txt"))
def set_secret(
    name: NameArgument,
    *,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
) -> None:
    """Set a secret to what stands on stdin, or is typed unseen.

    It isn't an argument, because every process of a machine can read the others' arguments. One
    newline at its end isn't a part of it.
    """
    value = _value(name)

    async def work() -> None:
        async with open_project(endpoint, state_dir, insecure_http=insecure_http) as project:
            await project.set_secret(name, value)

    run(work())
    output.say(f"{name} is set: sessions that start from now on get it for ${{{{secrets.{name}}}}}")


def _value(name: str) -> str:
    value = getpass(f"{name}: ") if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n")
    if not value:
        raise InvalidRequestError(f"nothing was given for {name}; to remove it: secret delete")
    return value


@app.command("list", epilog=options.examples("trunkline secret list"))
def list_secrets(
    *,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """List the names of the project's secrets."""

    async def work() -> list[SecretName]:
        async with open_project(endpoint, state_dir, insecure_http=insecure_http) as project:
            return await project.list_secrets()

    secrets = run(work())
    if output_format is Format.JSON:
        output.put_json([secret.as_dict() for secret in secrets])
    elif not secrets:
        output.say("no secrets: `trunkline secret set NAME` sets one")
    else:
        put_table(
            ("NAME", "SET"),
            [(secret.name, time_text(secret.updated_at)) for secret in secrets],
        )


@app.command("delete", epilog=options.examples("trunkline secret delete API_KEY"))
def delete_secret(
    name: NameArgument,
    *,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
) -> None:
    """Delete a secret; sessions that run keep what they have."""

    async def work() -> None:
        async with open_project(endpoint, state_dir, insecure_http=insecure_http) as project:
            await project.delete_secret(name)

    run(work())
    output.say(f"{name} is deleted")
