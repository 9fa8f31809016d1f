"""``trunkline keys``: API keys, for machines that no provider knows."""

from typing import Annotated

import typer

from trunkline.cli import options, output
from trunkline.cli.admin import ADMIN, check_grants
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.tables import put_table, time_text
from trunkline.cli.target import Where
from trunkline.client import ApiKey, NewApiKey

app = options.command_app("Make, list and revoke a project's API keys. For its admins.")


@app.command(
    "create",
    epilog=options.examples(
        "trunkline keys create nightly --role invoker",
        "trunkline keys create ci --role deployer --role invoker@default/echo --expires-in-days 30",
    ),
)
def create_key(  # noqa: PLR0913 - one parameter per option
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people know the key by.")],
    *,
    role: Annotated[
        list[str],
        typer.Option(
            "--role",
            metavar="ROLE",
            help="What it may do: reader, invoker, deployer, admin or impersonator, as ROLE or "
            "ROLE@PROJECT/AGENT. May be given several times.",
        ),
    ],
    expires_in_days: Annotated[
        float | None,
        typer.Option(
            "--expires-in-days", metavar="DAYS", min=0, help="When it ends; else after 90 days."
        ),
    ] = None,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Make an API key, and print it. It is shown this once, and kept nowhere.

    It is sent as a token is: `Authorization: Bearer KEY`, or in TRUNKLINE_TOKEN.
    """
    check_grants(role)
    where = Where(endpoint=endpoint, state_dir=state_dir, insecure_http=insecure_http)

    async def work() -> NewApiKey:
        async with where.open(ADMIN) as project:
            return await project.access.create_key(name, role, expires_in_days=expires_in_days)

    made = run(work())
    if output_format is Format.JSON:
        output.put_json(made.as_dict())
        return
    output.put(made.key)
    output.say(
        f"{made.name}: {', '.join(made.roles)} until {time_text(made.expires_at)}. It is shown "
        f"this once; `trunkline keys revoke {made.id}` ends it"
    )


@app.command("list", epilog=options.examples("trunkline keys list"))
def list_keys(
    *,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """List the project's API keys, without what they are used with."""
    where = Where(endpoint=endpoint, state_dir=state_dir, insecure_http=insecure_http)

    async def work() -> list[ApiKey]:
        async with where.open(ADMIN) as project:
            return await project.access.list_keys()

    keys = run(work())
    if output_format is Format.JSON:
        output.put_json([key.as_dict() for key in keys])
    elif not keys:
        output.say("no API keys: `trunkline keys create NAME --role ROLE` makes one")
    else:
        put_table(
            ("ID", "NAME", "ROLES", "MADE BY", "MADE", "ENDS"),
            [
                (
                    key.id,
                    key.name,
                    ", ".join(key.roles),
                    key.created_by,
                    time_text(key.created_at),
                    time_text(key.expires_at),
                )
                for key in keys
            ],
        )


@app.command("revoke", epilog=options.examples("trunkline keys revoke 0123456789abcdef"))
def revoke_key(
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="The key's id, as `keys list` has it.")
    ],
    *,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
) -> None:
    """Revoke an API key: it lets nobody in, and whoever came in with it is cut off."""
    where = Where(endpoint=endpoint, state_dir=state_dir, insecure_http=insecure_http)

    async def work() -> None:
        async with where.open(ADMIN) as project:
            await project.access.revoke_key(key_id)

    run(work())
    output.say(f"{key_id} is revoked: what came in with it is closed within seconds")
