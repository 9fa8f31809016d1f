"""``trunkline connect``: a conversation over an agent's WebSocket."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from trunkline import config
from trunkline.cli import options, output
from trunkline.cli.conversation import Conversation
from trunkline.cli.exits import ExitCode
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.sinks import JsonSink, Sink, TextSink
from trunkline.cli.sources import frames_of, lines_of, paced, read_chunks
from trunkline.cli.state import SessionMemory
from trunkline.cli.target import open_project
from trunkline.client import Connection, Message, Project, RefusedError
from trunkline.protocol.close import CloseCode
from trunkline.protocol.errors import SessionNotReadyError

app = options.command_app()

_STDIN = 0
#: A session that runs already answers sooner than this.
_COLD_START_NOTICE_S = 0.3
_ENDED_WELL = frozenset({CloseCode.NORMAL, CloseCode.NO_STATUS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """What to send: the lines of stdin, or a file in frames."""

    file: str | None
    frame_bytes: int
    interval_ms: float


@app.command()
def connect(  # noqa: PLR0913 - one parameter per option
    agent: options.AgentArgument,
    *,
    session_id: options.SessionOption = None,
    send_file: Annotated[
        str | None,
        typer.Option("--send-file", metavar="F", help="Send a file as binary frames; - is stdin."),
    ] = None,
    frame_bytes: Annotated[
        int, typer.Option("--frame-bytes", metavar="N", min=1, help="The size of those frames.")
    ] = 16384,
    interval_ms: Annotated[
        float,
        typer.Option(
            "--interval-ms", metavar="M", min=0, help="Time from one frame's start to the next's."
        ),
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="F", help="Write the binary frames received to a file."),
    ] = None,
    linger_s: Annotated[
        float,
        typer.Option(
            "--linger-s",
            metavar="S",
            min=0,
            help="After everything is sent, close once nothing came for so long.",
        ),
    ] = 1.0,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Talk to an agent: lines of stdin become text frames, text frames become lines of stdout.

    Ctrl-C closes the conversation with 1000. Exits with 3 if it was closed with another code.
    """
    sending = Sending(file=send_file, frame_bytes=frame_bytes, interval_ms=interval_ms)
    memory = SessionMemory(state_dir or config.default_state_dir())

    async def work() -> int:
        async with open_project(endpoint, state_dir, insecure_http=insecure_http) as project:
            with _source(sending) as source, _sink(out, output_format) as sink:
                connection = await _open(project, agent, session_id, memory)
                async with connection:
                    conversation = Conversation(connection, source, sink, linger_s=linger_s)
                    _close_on_signals(conversation)
                    return await conversation.run()

    code = run(work())
    raise typer.Exit(ExitCode.OK if code in _ENDED_WELL else ExitCode.CLOSED)


async def _open(
    project: Project, agent: str, session_id: str | None, memory: SessionMemory
) -> Connection:
    loop = asyncio.get_running_loop()
    notice = loop.call_later(_COLD_START_NOTICE_S, output.note, "starting a session...")
    try:
        connection = await project.connect(agent, session_id=session_id)
    except RefusedError as exc:
        if exc.session_id and exc.code == SessionNotReadyError.code:
            # It is the one whose log says why, so let `monitor` find it.
            memory.remember(project.endpoint.url, agent, exc.session_id)
        raise
    finally:
        notice.cancel()
    if connection.session_id:
        output.note(f"session {connection.session_id}")
        memory.remember(project.endpoint.url, agent, connection.session_id)
    return connection


@contextlib.contextmanager
def _source(sending: Sending) -> Iterator[AsyncIterator[Message]]:
    if sending.file is None:
        yield lines_of(read_chunks(_STDIN))
        return
    is_stdin = sending.file == "-"
    descriptor = _STDIN if is_stdin else os.open(sending.file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        frames = frames_of(read_chunks(descriptor), sending.frame_bytes)
        yield paced(frames, sending.interval_ms / 1000, clock=time.monotonic)
    finally:
        if not is_stdin:
            os.close(descriptor)


@contextlib.contextmanager
def _sink(out: Path | None, output_format: Format) -> Iterator[Sink]:
    kind = JsonSink if output_format is Format.JSON else TextSink
    if out is None:
        yield kind(None)
        return
    with out.open("wb") as file:
        yield kind(file)


def _close_on_signals(conversation: Conversation) -> None:
    loop = asyncio.get_running_loop()

    def close(number: signal.Signals) -> None:
        # The second one finds the default action again and doesn't wait for the agent.
        loop.remove_signal_handler(number)
        conversation.close_soon()

    for number in (signal.SIGINT, signal.SIGTERM):
        # Without signals (another thread, another system) Ctrl-C still cancels.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, close, number)
