"""``trunkline sessions``: the sessions of an agent."""

from typing import Annotated

import typer

from trunkline.cli import options, output
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.tables import put_fields, put_table, time_text
from trunkline.cli.target import open_project
from trunkline.client import Session

app = options.command_app("List and show the sessions of an agent.")


@app.command("list")
def list_sessions(
    agent: options.AgentArgument,
    *,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="How many at the most.")
    ] = 100,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """List your sessions with an agent, the newest first."""

    async def work() -> list[Session]:
        sessions: list[Session] = []
        async with open_project(endpoint, state_dir, insecure_http=insecure_http) as project:
            async for session in project.list_sessions(agent):
                sessions.append(session)
                if len(sessions) >= limit:
                    break
        return sessions

    sessions = run(work())
    if output_format is Format.JSON:
        output.put_json([session.as_dict() for session in sessions])
    elif not sessions:
        output.say(f"no sessions: `trunkline connect {agent}` starts one")
    else:
        put_table(
            ("SESSION ID", "STATUS", "VERSION", "CREATED", "LAST ACCESSED", "EXPIRES"),
            [
                (
                    session.agent_session_id,
                    session.status or "-",
                    session.version or "-",
                    time_text(session.created_at),
                    time_text(session.last_accessed_at),
                    time_text(session.expires_at),
                )
                for session in sessions
            ],
        )


@app.command("show")
def show_session(
    agent: options.AgentArgument,
    session_id: Annotated[str, typer.Argument(metavar="ID", help="The session.")],
    *,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Show one session."""

    async def work() -> Session:
        async with open_project(endpoint, state_dir, insecure_http=insecure_http) as project:
            return await project.get_session(agent, session_id)

    session = run(work())
    if output_format is Format.JSON:
        output.put_json(session.as_dict())
        return
    indicator = session.version_indicator
    put_fields(
        [
            ("Session ID", session.agent_session_id),
            ("Status", session.status or "-"),
            ("Version", f"{session.version} (type: {indicator.type})" if indicator else "-"),
            ("Created At", time_text(session.created_at)),
            ("Last Accessed", time_text(session.last_accessed_at)),
            ("Expires At", time_text(session.expires_at)),
        ]
    )
