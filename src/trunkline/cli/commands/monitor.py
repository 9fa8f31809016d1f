"""``trunkline monitor``: a session's log."""

import datetime as dt
import sys
from enum import StrEnum
from typing import Annotated

import typer

from trunkline.cli import options, output
from trunkline.cli.logformat import LogFormatter
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.session import find_session
from trunkline.cli.sinks import describe_loss
from trunkline.cli.target import Where
from trunkline.cli.target_options import takes_where
from trunkline.client import LogQuery, ServerEvent

app = options.command_app()


class Kind(StrEnum):
    """The two logs of a session."""

    CONSOLE = "console"
    SYSTEM = "system"


@app.command(
    epilog=options.examples(
        "trunkline monitor echo --follow",
        "trunkline monitor echo --type system --tail 20",
        "trunkline monitor echo --follow --output json | jq .data",
    )
)
@takes_where
def monitor(  # noqa: PLR0913 - one parameter per option
    agent: options.AgentArgument,
    *,
    session_id: options.SessionOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with the lines to come.")
    ] = False,
    kind: Annotated[
        Kind,
        typer.Option(
            "--type", "-t", help="What the agent printed, or what happened to the session."
        ),
    ] = Kind.CONSOLE,
    tail: Annotated[
        int,
        typer.Option("--tail", "-l", metavar="N", min=1, max=300, help="Lines to begin with."),
    ] = 50,
    utc: Annotated[bool, typer.Option("--utc", help="Show times in UTC.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print the stream of events as it is.")
    ] = False,
    where: Where,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Show what an agent's session printed.

    The session is the last one used with this agent from here, else the one used last.
    """
    query = LogQuery(kind=kind.value, tail=tail, follow=follow)
    printer = _Printer(raw=raw, utc=utc, output_format=output_format)

    async def work() -> None:
        async with where.open() as project:
            sid = session_id or await find_session(project, agent, where.memory())
            output.note(f"Streaming session logs for {agent} (session: {sid})...")
            stream = project.log_stream(agent, sid, query)
            stream.on_loss = lambda error: output.note(describe_loss(error))
            async for event in stream:
                printer.put(event)

    run(work())


class _Printer:
    def __init__(self, *, raw: bool, utc: bool, output_format: Format) -> None:
        self._raw = raw
        self._format = output_format
        self._formatter = LogFormatter(
            dt.UTC if utc else None,
            lambda text, colour: output.coloured(text, colour, sys.stdout),
        )

    def put(self, event: ServerEvent) -> None:
        if self._raw:
            output.put("\n".join(event.lines) + "\n")
        elif self._format is Format.JSON:
            output.put_json_line(
                {"event": event.event or "message", "id": event.id, "data": event.data}
            )
        else:
            output.put(self._formatter.format(event))
