"""``trunkline proxy``: a door on this machine that has the token in it."""

from typing import Annotated

import typer

from trunkline.cli import options, output
from trunkline.cli.proxying import TokenProxy, serve
from trunkline.cli.running import run
from trunkline.cli.target import open_project

app = options.command_app()


@app.command(
    epilog=options.examples(
        "trunkline proxy", "trunkline proxy --endpoint https://HOST/api/projects/PROJECT"
    )
)
def proxy(
    *,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port. 0 takes any that is free.")
    ] = 0,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="ORIGIN",
            help="A web page that may use it, besides those of this machine. May be given several "
            "times.",
        ),
    ] = None,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
) -> None:
    """Listen on this machine, and pass requests and WebSockets on with your token.

    Whatever reaches it acts as you. It is for development: it listens on loopback alone, and
    answers browsers for pages of this machine only.
    """

    async def work() -> None:
        async with open_project(endpoint, state_dir, insecure_http=insecure_http) as project:
            # Said at once if there is none.
            await project.authorization()
            try:
                made = TokenProxy(project.endpoint, project.authorization, allow_origin or ())
            except ValueError as exc:
                raise typer.BadParameter(str(exc), param_hint="--allow-origin") from None
            await serve(made, port, lambda url: output.put(f"ready {url}"))

    run(work())
