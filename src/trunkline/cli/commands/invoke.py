"""``trunkline invoke``: one HTTP call to an agent."""

import base64
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from trunkline import config
from trunkline.cli import options, output
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.state import SessionMemory
from trunkline.cli.target import open_project
from trunkline.client import Invocation, Project, RefusedError
from trunkline.protocol.errors import SessionNotReadyError

app = options.command_app()

_JSON, _TEXT = "application/json", "text/plain"


@app.command()
def invoke(  # noqa: PLR0913 - one parameter per option
    agent: options.AgentArgument,
    body: Annotated[str | None, typer.Argument(metavar="BODY", help="What to send.")] = None,
    *,
    input_file: Annotated[
        str | None,
        typer.Option("--input-file", "-f", metavar="F", help="Send a file; - is stdin."),
    ] = None,
    session_id: options.SessionOption = None,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout-s", metavar="S", min=1, help="How long the agent may be silent."),
    ] = 1800,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Call an agent once over HTTP, and print its answer as it comes.

    The body is sent as application/json if it is JSON, else as text/plain.
    """
    content = _content(body, input_file)
    memory = SessionMemory(state_dir or config.default_state_dir())

    async def work() -> None:
        async with open_project(endpoint, state_dir, insecure_http=insecure_http) as project:
            await _call(project, agent, content, session_id, timeout_s, memory, output_format)

    run(work())


def _content(body: str | None, input_file: str | None) -> bytes:
    if input_file is None:
        return (body or "").encode()
    if body is not None:
        raise typer.BadParameter("give either BODY or --input-file, not both")
    if input_file == "-":
        return sys.stdin.buffer.read()
    return Path(input_file).read_bytes()


def content_type_of(content: bytes) -> str:
    """Return what to declare a body as."""
    try:
        json.loads(content)
    except ValueError:
        return _TEXT
    return _JSON


async def _call(  # noqa: PLR0913 - the options again
    project: Project,
    agent: str,
    content: bytes,
    session_id: str | None,
    timeout_s: float,
    memory: SessionMemory,
    output_format: Format,
) -> None:
    try:
        async with project.invoke(
            agent,
            content,
            content_type=content_type_of(content),
            session_id=session_id,
            timeout_s=timeout_s,
        ) as answer:
            _tell(answer)
            if answer.session_id:
                memory.remember(project.endpoint.url, agent, answer.session_id)
            if output_format is Format.JSON:
                output.put_json(_as_json(answer, await answer.read()))
            else:
                await _copy(answer)
    except RefusedError as exc:
        if exc.session_id and exc.code == SessionNotReadyError.code:
            memory.remember(project.endpoint.url, agent, exc.session_id)
        raise


def _tell(answer: Invocation) -> None:
    if answer.session_id:
        output.note(f"session {answer.session_id}")
    if answer.invocation_id:
        output.note(f"invocation {answer.invocation_id}")


async def _copy(answer: Invocation) -> None:
    last = b"\n"
    async for chunk in answer:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        last = chunk[-1:] or last
    if last != b"\n" and sys.stdout.isatty():
        output.put("")


def _as_json(answer: Invocation, body: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "status": answer.status,
        "session_id": answer.session_id,
        "invocation_id": answer.invocation_id,
        "content_type": answer.content_type,
    }
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return {**facts, "base64": base64.b64encode(body).decode()}
    try:
        return {**facts, "body": json.loads(text)}
    except ValueError:
        return {**facts, "body": text}
