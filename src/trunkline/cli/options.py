"""Options several commands share, and how every command is declared."""

from pathlib import Path
from typing import Annotated

import typer

from trunkline.cli.output import Format

EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="URL",
        help="The project: http(s)://HOST/api/projects/PROJECT. Else TRUNKLINE_ENDPOINT, "
        "FOUNDRY_PROJECT_ENDPOINT, or the platform on this machine.",
    ),
]
StateDirOption = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        help="The state directory of the platform on this machine. Else TRUNKLINE_HOME.",
    ),
]
InsecureOption = Annotated[
    bool,
    typer.Option("--insecure-http", help="Send the token over plain http to another machine, too."),
]
OutputOption = Annotated[
    Format, typer.Option("--output", "-o", help="How to print data.", show_default=True)
]
UserOption = Annotated[
    str | None,
    typer.Option(
        "--user-identity",
        metavar="ID",
        help="Act for this user; it takes the role impersonator.",
    ),
]
SessionOption = Annotated[
    str | None,
    typer.Option("--session-id", "-s", metavar="ID", help="The session."),
]
AgentArgument = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.")]


def examples(*lines: str) -> str:
    """Return the end of a command's help: lines to be tried."""
    # The marks keep the lines as they are: one example a line.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def command_app(help_text: str | None = None) -> typer.Typer:
    """Return an application to declare a command, or a group of commands, on."""
    return typer.Typer(
        help=help_text,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
