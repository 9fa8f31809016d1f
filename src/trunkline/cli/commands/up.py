"""``trunkline up``: the whole platform in one process."""

from pathlib import Path
from typing import Annotated

import typer

from trunkline import config
from trunkline.cli.options import command_app, examples
from trunkline.platform import keeper

app = command_app()


@app.command(
    epilog=examples(
        "trunkline up",
        "trunkline up --port 0 --state-dir ./state",
        "trunkline up --workers 4",
        "trunkline deploy ./my-agent      (in another terminal)",
    )
)
def up(
    *,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8080,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    state_dir: Annotated[
        Path | None,
        typer.Option("--state-dir", metavar="DIR", help="Where to keep state."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            max=128,
            help="How many processes relay, each on a core of its own.  [default: 1]",
        ),
    ] = None,
) -> None:
    """Start the whole platform in one process.

    Prints "ready http://HOST:PORT" when it serves, and runs until Ctrl-C.
    """
    where = str(state_dir or config.default_state_dir())
    raise typer.Exit(keeper.run(host, port, where, workers=workers))
