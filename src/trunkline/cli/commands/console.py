"""``trunkline console``: a link to the console."""

from pathlib import Path
from typing import Annotated

import typer

from trunkline import config
from trunkline.auth.local import user_name
from trunkline.cli import output
from trunkline.cli.options import EndpointOption, StateDirOption, command_app, examples
from trunkline.client import resolve_endpoint
from trunkline.console.signin import make_link

app = command_app()


@app.command(epilog=examples("trunkline console", "trunkline console --user ada"))
def console(
    *,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="NAME", help="Whom to sign in. Else this system's user."),
    ] = None,
    endpoint: EndpointOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """Print a link that signs a browser in to the console, once.

    It works for ten minutes, on the platform of this machine. Whoever can write to the platform's
    state directory can make one for anybody.
    """
    place: Path = state_dir or config.default_state_dir()
    if not place.is_dir():
        raise typer.BadParameter(f"{place} isn't a directory", param_hint="--state-dir")
    where = resolve_endpoint(endpoint, config.environment())
    output.put(make_link(place, where.base, user or user_name()))
