"""``trunkline sessions``: the sessions of an agent."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from trunkline.cli import options, output
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.tables import put_fields, put_table, time_text
from trunkline.cli.target import Where
from trunkline.cli.target_options import takes_where
from trunkline.client import Project, RefusedError, Session

app = options.command_app("Make, list, show, stop and delete the sessions of an agent.")

_T = TypeVar("_T")
#: The contract's other platform has a code for it; ours answers as if it had just been stopped.
_STOPPED_ALREADY = "session_already_stopped"

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The session.")]


@app.command(
    "create",
    epilog=options.examples(
        "trunkline sessions create echo",
        "trunkline sessions create echo --version 2 --session-id mine",
    ),
)
@takes_where
def create_session(
    agent: options.AgentArgument,
    *,
    session_id: Annotated[
        str | None,
        typer.Option("--session-id", "-s", metavar="ID", help="Its id; else one is made up."),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="V", help="Its version; else the endpoint decides."),
    ] = None,
    where: Where,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Make a session ahead of its first call; commands use it from then on."""

    async def work(project: Project) -> Session:
        session = await project.create_session(agent, session_id=session_id, version=version)
        where.memory().remember(project.endpoint.url, agent, session.agent_session_id)
        return session

    _put(_with_project(where, work), output_format)


@app.command("list", epilog=options.examples("trunkline sessions list echo --limit 10"))
@takes_where
def list_sessions(
    agent: options.AgentArgument,
    *,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="How many at the most.")
    ] = 100,
    where: Where,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """List your sessions with an agent, the newest first."""

    async def work(project: Project) -> list[Session]:
        sessions: list[Session] = []
        async for session in project.list_sessions(agent):
            sessions.append(session)
            if len(sessions) >= limit:
                break
        return sessions

    sessions = _with_project(where, work)
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


@app.command("show", epilog=options.examples("trunkline sessions show echo mine -o json"))
@takes_where
def show_session(
    agent: options.AgentArgument,
    session_id: IdArgument,
    *,
    where: Where,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Show one session."""
    session = _with_project(where, lambda project: project.get_session(agent, session_id))
    _put(session, output_format)


@app.command("stop", epilog=options.examples("trunkline sessions stop echo mine"))
@takes_where
def stop_session(
    agent: options.AgentArgument,
    session_id: IdArgument,
    *,
    where: Where,
) -> None:
    """Stop what runs for a session. Its files stay, and the next call starts it again."""

    async def work(project: Project) -> bool:
        try:
            await project.stop_session(agent, session_id)
        except RefusedError as exc:
            if exc.code != _STOPPED_ALREADY:
                raise
            return False
        return True

    if _with_project(where, work):
        output.say(f'Session "{session_id}" stopped for agent "{agent}".')
    else:
        output.say(f'Session "{session_id}" is already stopped for agent "{agent}".')


@app.command("delete", epilog=options.examples("trunkline sessions delete echo mine"))
@takes_where
def delete_session(
    agent: options.AgentArgument,
    session_id: IdArgument,
    *,
    where: Where,
) -> None:
    """Delete a session with its files and its log."""

    async def work(project: Project) -> None:
        await project.delete_session(agent, session_id)
        where.memory().forget(project.endpoint.url, agent, session_id)

    _with_project(where, work)
    output.say(f'Session "{session_id}" deleted from agent "{agent}".')


def _with_project(where: Where, work: Callable[[Project], Awaitable[_T]]) -> _T:
    async def whole() -> _T:
        async with where.open() as project:
            return await work(project)

    return run(whole())


def _put(session: Session, output_format: Format) -> None:
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
