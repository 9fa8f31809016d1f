"""``trunkline connect`` and ``trunkline record``: a conversation over an agent's WebSocket."""

from pathlib import Path
from typing import Annotated

import typer

from trunkline.cli import options, talk_options
from trunkline.cli.output import Format
from trunkline.cli.talk_options import Lines
from trunkline.cli.talking import TalkOptions, talk
from trunkline.cli.target import Where
from trunkline.cli.target_options import takes_where

app = options.command_app()
record_app = options.command_app()

AgentArgument = Annotated[
    str, typer.Argument(metavar="AGENT", help="The agent's name, or its whole address.")
]


@app.command(
    epilog=options.examples(
        "trunkline connect echo",
        "echo hello | trunkline connect echo --output json",
        "trunkline connect voice --wav question.wav --out-wav answer.wav",
        "trunkline connect echo --session-id s-1 --hex",
    )
)
@takes_where
def connect(  # noqa: PLR0913 - one parameter per option
    agent: AgentArgument,
    *,
    session_id: options.SessionOption = None,
    send_file: talk_options.SendFileOption = None,
    frame_bytes: talk_options.FrameBytesOption = 16384,
    interval_ms: talk_options.IntervalOption = 0,
    out: talk_options.OutOption = None,
    lines: talk_options.LinesOption = Lines.TEXT,
    wav: talk_options.WavOption = None,
    out_wav: talk_options.OutWavOption = None,
    mic: talk_options.MicOption = False,
    speaker: talk_options.SpeakerOption = False,
    rate: talk_options.RateOption = None,
    frame_ms: talk_options.FrameMsOption = 20,
    timestamps: talk_options.TimestampsOption = False,
    has_hex: talk_options.HexOption = False,
    reconnect: talk_options.ReconnectOption = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="F", help="Write every frame to a recording."),
    ] = None,
    linger_s: talk_options.LingerOption = 1.0,
    where: Where,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Talk to an agent: lines of stdin become text frames, text frames become lines of stdout.

    Ctrl-C closes the conversation with 1000. Exits with 3 if it was closed with another code.
    """
    wanted = TalkOptions(
        session_id=session_id,
        send_file=send_file,
        frame_bytes=frame_bytes,
        interval_ms=interval_ms,
        lines=lines,
        wav=wav,
        mic=mic,
        frame_ms=frame_ms,
        out=out,
        out_wav=out_wav,
        speaker=speaker,
        rate_hz=rate,
        timestamps=timestamps,
        has_hex=has_hex,
        reconnect=reconnect,
        linger_s=linger_s,
        output_format=output_format,
        record=record,
    )
    talk(agent, where, wanted)


@record_app.command(
    "record",
    epilog=options.examples(
        "trunkline record call.trk echo",
        "trunkline record call.trk voice --wav question.wav",
        "trunkline replay call.trk voice",
    ),
)
@takes_where
def record_call(  # noqa: PLR0913 - one parameter per option
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the recording.")],
    agent: AgentArgument,
    *,
    session_id: options.SessionOption = None,
    send_file: talk_options.SendFileOption = None,
    frame_bytes: talk_options.FrameBytesOption = 16384,
    interval_ms: talk_options.IntervalOption = 0,
    out: talk_options.OutOption = None,
    lines: talk_options.LinesOption = Lines.TEXT,
    wav: talk_options.WavOption = None,
    out_wav: talk_options.OutWavOption = None,
    mic: talk_options.MicOption = False,
    speaker: talk_options.SpeakerOption = False,
    rate: talk_options.RateOption = None,
    frame_ms: talk_options.FrameMsOption = 20,
    timestamps: talk_options.TimestampsOption = False,
    has_hex: talk_options.HexOption = False,
    reconnect: talk_options.ReconnectOption = None,
    linger_s: talk_options.LingerOption = 1.0,
    where: Where,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Talk to an agent as `connect` does, and write every frame down with its time.

    `trunkline replay` plays the recording to another version of the agent.
    """
    wanted = TalkOptions(
        session_id=session_id,
        send_file=send_file,
        frame_bytes=frame_bytes,
        interval_ms=interval_ms,
        out=out,
        lines=lines,
        wav=wav,
        out_wav=out_wav,
        mic=mic,
        speaker=speaker,
        rate_hz=rate,
        frame_ms=frame_ms,
        timestamps=timestamps,
        has_hex=has_hex,
        reconnect=reconnect,
        record=file,
        linger_s=linger_s,
        output_format=output_format,
    )
    talk(agent, where, wanted)
