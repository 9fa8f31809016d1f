"""Holds the conversation of ``connect`` and ``record``: what goes in, what comes out, signals."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from trunkline.cli import output
from trunkline.cli.conversation import Conversation
from trunkline.cli.exits import ExitCode
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.sinks import JsonSink, Sink, TextSink, ViewSink, Writable
from trunkline.cli.sound import Loudspeaker, Microphone
from trunkline.cli.sources import bytes_of, frames_of, json_of, lines_of, paced, read_chunks
from trunkline.cli.state import SessionMemory
from trunkline.cli.talk_options import Lines
from trunkline.cli.target import Where
from trunkline.cli.wav import WavSink, WavSource
from trunkline.client import (
    DEFAULT_BACKOFF,
    Message,
    Project,
    RefusedError,
    ResumingConnection,
)
from trunkline.protocol.close import CloseCode
from trunkline.protocol.errors import SessionNotReadyError
from trunkline.recordings.recorder import Recorder

STDIN = 0
DEFAULT_RATE_HZ = 24000
#: A session that runs already answers sooner than this.
_COLD_START_NOTICE_S = 0.3
_ENDED_WELL = frozenset({CloseCode.NORMAL, CloseCode.NO_STATUS})


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkOptions:
    """What was asked for on the command line."""

    session_id: str | None
    send_file: str | None
    frame_bytes: int
    interval_ms: float
    lines: Lines
    wav: Path | None
    mic: bool
    frame_ms: float
    out: Path | None
    out_wav: Path | None
    speaker: bool
    rate_hz: int | None
    timestamps: bool
    has_hex: bool
    reconnect: bool | None
    linger_s: float
    output_format: Format
    record: Path | None

    def __post_init__(self) -> None:
        sources = {"--send-file": self.send_file, "--wav": self.wav, "--mic": self.mic or None}
        sinks = {
            "--out": self.out,
            "--out-wav": self.out_wav,
            "--speaker": self.speaker or None,
        }
        for given in (sources, sinks):
            named = [name for name, value in given.items() if value is not None]
            if len(named) > 1:
                raise typer.BadParameter(f"give one of {' and '.join(named)}, not both")


def talk(agent: str, where: Where, options: TalkOptions) -> None:
    """Hold one conversation, and end the command with its exit code."""
    memory = where.memory()
    where, agent, session_id = where.of_agent(agent, options.session_id)

    async def work() -> int:
        async with where.open() as project:
            with ExitStack() as stack:
                source, rate_hz = stack.enter_context(_source(options))
                sink = stack.enter_context(_sink(options, rate_hz))
                recorder = stack.enter_context(_recorder(options.record, agent, project))
                connection = await _open(
                    project, agent, session_id, memory, options=options, tap=recorder
                )
                async with connection:
                    connection.on_loss = lambda error: sink.lost(error.close_code, error.reason)
                    connection.on_resume = lambda: output.note("connected again")
                    conversation = Conversation(connection, source, sink, linger_s=options.linger_s)
                    _close_on_signals(conversation)
                    code = await conversation.run()
                if recorder is not None:
                    output.note(f"recorded {recorder.frames} frames in {options.record}")
                return code

    code = run(work())
    raise typer.Exit(ExitCode.OK if code in _ENDED_WELL else ExitCode.CLOSED)


async def _open(
    project: Project,
    agent: str,
    session_id: str | None,
    memory: SessionMemory,
    *,
    options: TalkOptions,
    tap: Recorder | None,
) -> ResumingConnection:
    loop = asyncio.get_running_loop()
    notice = loop.call_later(_COLD_START_NOTICE_S, output.note, "starting a session...")
    comes_back = options.reconnect
    if comes_back is None:
        comes_back = sys.stdin.isatty()
    try:
        connection = await project.converse(
            agent,
            session_id=session_id,
            backoff=DEFAULT_BACKOFF if comes_back else None,
            tap=tap,
        )
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
def _source(options: TalkOptions) -> Iterator[tuple[AsyncIterator[Message], int]]:
    """Give what to send, and the rate of its sound."""
    rate_hz = options.rate_hz or DEFAULT_RATE_HZ
    if options.mic:
        yield Microphone(rate_hz, options.frame_ms).frames(), rate_hz
    elif options.wav is not None:
        wav = WavSource(options.wav)
        with contextlib.closing(wav):
            frames = wav.frames(options.frame_ms)
            source = paced(frames, options.frame_ms / 1000, clock=time.monotonic)
            yield source, options.rate_hz or wav.rate_hz
    elif options.send_file is not None:
        is_stdin = options.send_file == "-"
        # As bytes on every system; Python keeps it from child processes by itself.
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
        descriptor = STDIN if is_stdin else os.open(options.send_file, flags)
        try:
            frames = frames_of(read_chunks(descriptor), options.frame_bytes)
            yield paced(frames, options.interval_ms / 1000, clock=time.monotonic), rate_hz
        finally:
            if not is_stdin:
                os.close(descriptor)
    else:
        yield _lines(options.lines), rate_hz


def _lines(kind: Lines) -> AsyncIterator[Message]:
    lines = lines_of(read_chunks(STDIN))
    if kind is Lines.JSON:
        return json_of(lines)
    if kind is Lines.HEX:
        return bytes_of(lines)
    return lines


@contextlib.contextmanager
def _sink(options: TalkOptions, rate_hz: int) -> Iterator[Sink]:
    with _binary(options, rate_hz) as binary:
        if options.output_format is Format.JSON:
            yield JsonSink(binary)
        elif options.timestamps or options.has_hex:
            yield ViewSink(binary, has_hex=options.has_hex)
        else:
            yield TextSink(binary)


def _binary(options: TalkOptions, rate_hz: int) -> AbstractContextManager[Writable | None]:
    if options.out is not None:
        return options.out.open("wb")
    if options.out_wav is not None:
        return contextlib.closing(WavSink(options.out_wav, rate_hz))
    if options.speaker:
        return contextlib.closing(Loudspeaker(rate_hz))
    return nullcontext()


@contextlib.contextmanager
def _recorder(path: Path | None, agent: str, project: Project) -> Iterator[Recorder | None]:
    if path is None:
        yield None
        return
    about: dict[str, Any] = {"agent": agent, "endpoint": project.endpoint.url}
    with path.open("wb") as file:
        recorder = Recorder(file, about)
        try:
            yield recorder
        finally:
            recorder.flush()


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
