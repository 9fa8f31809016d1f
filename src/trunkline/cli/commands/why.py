"""``trunkline why``: how a session's last connections ended."""

import sys
from typing import Annotated

import typer

from trunkline import config
from trunkline.cli import options, output
from trunkline.cli.endings import age_text, facts, time_text, what_happened, what_to_do
from trunkline.cli.output import CYAN, Format
from trunkline.cli.running import run
from trunkline.cli.session import find_session
from trunkline.cli.state import SessionMemory
from trunkline.cli.target import open_project
from trunkline.client import EndedConnection

app = options.command_app()


@app.command(
    epilog=options.examples("trunkline why echo", "trunkline why echo --session-id mine --last 10")
)
def why(  # noqa: PLR0913 - one parameter per option
    agent: options.AgentArgument,
    *,
    session_id: options.SessionOption = None,
    last: Annotated[
        int,
        typer.Option("--last", "-n", metavar="N", min=1, max=100, help="How many at the most."),
    ] = 3,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Say how a session's last connections ended, and why; the newest first.

    The session is the last one used with this agent from here, else the one used last.
    """
    memory = SessionMemory(state_dir or config.default_state_dir())

    async def work() -> tuple[str, list[EndedConnection]]:
        async with open_project(endpoint, state_dir, insecure_http=insecure_http) as project:
            sid = session_id or await find_session(project, agent, memory)
            return sid, await project.list_connections(agent, sid, limit=last)

    sid, ends = run(work())
    if output_format is Format.JSON:
        output.put_json([end.as_dict() for end in ends])
        return
    if not ends:
        output.say(
            f"no connection to {agent} has ended in session {sid}; what was refused before it "
            "began is in the platform's log"
        )
    for end in ends:
        _put(end, agent, sid)


def _put(end: EndedConnection, agent: str, session_id: str) -> None:
    head = f"{time_text(end.closed_at)}  after {age_text(end.age_s)}: "
    output.put(head + output.coloured(what_happened(end), CYAN, sys.stdout))
    advice = what_to_do(end, agent, session_id)
    for line in [f"what to do: {advice}"] * bool(advice) + facts(end):
        output.put(f"    {line}")
