"""``trunkline revoke``: what an identity was issued so far lets nobody in any more."""

from typing import Annotated

import typer

from trunkline.auth.issuer import ISSUER
from trunkline.cli import options, output
from trunkline.cli.admin import ADMIN
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.tables import put_table, time_text
from trunkline.cli.target import Where
from trunkline.client import Revocation

app = options.command_app()


@app.command(
    epilog=options.examples(
        "trunkline revoke 'https://login.example.com|olga'",
        "trunkline revoke eve",
        "trunkline revoke --list",
    )
)
def revoke(
    identity: Annotated[
        str | None,
        typer.Argument(
            metavar="IDENTITY",
            help="Who: ISSUER|SUBJECT, as the audit log has it; SUBJECT alone is somebody of the "
            "development issuer.",
        ),
    ] = None,
    *,
    list_all: Annotated[bool, typer.Option("--list", help="List the revocations instead.")] = False,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Make worthless whatever an identity was issued so far, and close what it has open.

    A token that is issued later is good again: have the provider issue none. It takes the role
    admin for all projects.
    """
    if list_all == (identity is not None):
        raise typer.BadParameter("give an identity, or --list", param_hint="IDENTITY")
    where = Where(endpoint=endpoint, state_dir=state_dir, insecure_http=insecure_http)

    async def work() -> list[Revocation]:
        async with where.open(ADMIN) as project:
            if identity is None:
                return await project.access.list_revocations()
            return [await project.access.revoke(*_parts_of(identity))]

    revocations = run(work())
    if output_format is Format.JSON:
        shown = [each.as_dict() for each in revocations]
        output.put_json(shown if list_all else shown[0])
    elif identity is not None:
        issuer, subject = _parts_of(identity)
        output.say(f"{subject} of {issuer} is revoked: what is open is closed within seconds")
    elif not revocations:
        output.say("no revocations")
    else:
        put_table(
            ("IDENTITY", "REVOKED", "BY"),
            [
                (f"{each.issuer}|{each.subject}", time_text(each.revoked_at), each.revoked_by)
                for each in revocations
            ],
        )


def _parts_of(identity: str) -> tuple[str, str]:
    issuer, bar, subject = identity.partition("|")
    return (issuer, subject) if bar else (ISSUER, identity)
