"""``trunkline audit``: who did what, to which agent or session, from where."""

import datetime as dt
from typing import Annotated

import typer

from trunkline.cli import options, output
from trunkline.cli.admin import ADMIN
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.tables import put_table
from trunkline.cli.target import Where
from trunkline.client import AuditEntry

app = options.command_app()


@app.command(
    epilog=options.examples(
        "trunkline audit --limit 20",
        "trunkline audit --agent echo --session-id mine",
        "trunkline audit --identity 'https://login.example.com|olga' -o json",
    )
)
def audit(  # noqa: PLR0913 - one parameter per option
    *,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="AGENT", help="What was about this agent.")
    ] = None,
    session_id: options.SessionOption = None,
    identity: Annotated[
        str | None,
        typer.Option("--identity", metavar="IDENTITY", help="What ISSUER|SUBJECT did."),
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(
            "--action", metavar="ACTION", help="This action, such as connect or create_session."
        ),
    ] = None,
    all_projects: Annotated[
        bool,
        typer.Option(
            "--all-projects", help="What was done in any project, and what is about none."
        ),
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="How many at the most.")
    ] = 100,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Show who did what in a project, the newest first. For its admins."""
    where = Where(endpoint=endpoint, state_dir=state_dir, insecure_http=insecure_http)

    async def work() -> list[AuditEntry]:
        found: list[AuditEntry] = []
        async with where.open(ADMIN) as project:
            entries = project.access.list_audit(
                agent=agent,
                session_id=session_id,
                identity=identity,
                action=action,
                in_all_projects=all_projects,
            )
            async for entry in entries:
                found.append(entry)
                if len(found) >= limit:
                    break
        return found

    entries = run(work())
    if output_format is Format.JSON:
        output.put_json([entry.as_dict() for entry in entries])
    elif not entries:
        output.say("nothing of that kind was recorded")
    else:
        put_table(
            ("AT", "ACTION", "STATUS", "AGENT", "SESSION", "WHO", "FROM"),
            [
                (
                    _local_time(entry.at),
                    entry.action,
                    str(entry.status),
                    entry.agent or "-",
                    entry.agent_session_id or "-",
                    _who(entry),
                    entry.address or "-",
                )
                for entry in entries
            ],
        )


def _who(entry: AuditEntry) -> str:
    if entry.identity is None:
        return "-"
    return f"{entry.identity} for {entry.acting_for}" if entry.acting_for else entry.identity


def _local_time(text: str) -> str:
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        return text
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
