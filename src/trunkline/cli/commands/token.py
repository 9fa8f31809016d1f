"""``trunkline token``: a bearer token of the development issuer."""

from pathlib import Path
from typing import Annotated

import typer

from trunkline.cli import options, output
from trunkline.cli.admin import check_grants
from trunkline.cli.identity import TOKEN_LIFETIME_S, local_token
from trunkline.cli.options import StateDirOption, command_app

app = command_app()


@app.command(
    epilog=options.examples(
        "trunkline token --user ada --expires-in 600",
        'curl -H "Authorization: Bearer $(trunkline token)" $URL',
    )
)
def token(
    *,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="NAME", help="Whose token. Else this system's user."),
    ] = None,
    expires_in: Annotated[
        int, typer.Option("--expires-in", metavar="S", help="Seconds until it is refused.")
    ] = TOKEN_LIFETIME_S,
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            metavar="ROLE",
            help="What it allows, instead of the platform's default: reader, invoker, deployer, "
            "admin or impersonator, as ROLE, ROLE@PROJECT or ROLE@PROJECT/AGENT. May be given "
            "several times.",
        ),
    ] = None,
    state_dir: StateDirOption = None,
) -> None:
    """Print one bearer token for the platform on this machine, and nothing else.

    Whoever can read the platform's state directory can make tokens for anybody.
    """
    check_grants(role or ())
    output.put(local_token(_checked(state_dir), user, expires_in, role or None))


def _checked(state_dir: Path | None) -> Path | None:
    if state_dir is not None and state_dir.exists() and not state_dir.is_dir():
        raise typer.BadParameter(f"{state_dir} isn't a directory", param_hint="--state-dir")
    return state_dir
