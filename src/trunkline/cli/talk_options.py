"""The options of ``connect`` and ``record``, which hold the same conversation."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Lines(StrEnum):
    """What a line of stdin is."""

    TEXT = "text"
    JSON = "json"
    HEX = "hex"


SendFileOption = Annotated[
    str | None,
    typer.Option("--send-file", metavar="F", help="Send a file as binary frames; - is stdin."),
]
FrameBytesOption = Annotated[
    int, typer.Option("--frame-bytes", metavar="N", min=1, help="The size of those frames.")
]
IntervalOption = Annotated[
    float,
    typer.Option(
        "--interval-ms", metavar="M", min=0, help="Time from one frame's start to the next's."
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="F", help="Write the binary frames received to a file."),
]
LinesOption = Annotated[
    Lines,
    typer.Option(
        "--lines",
        help="What the lines of stdin are: text; json, which is checked; hex, sent as binary.",
    ),
]
WavOption = Annotated[
    Path | None,
    typer.Option("--wav", metavar="F", help="Send the sound of a WAV file, as fast as it plays."),
]
OutWavOption = Annotated[
    Path | None,
    typer.Option("--out-wav", metavar="F", help="Write the binary frames to a WAV file."),
]
MicOption = Annotated[bool, typer.Option("--mic", help="Send what the microphone hears.")]
SpeakerOption = Annotated[
    bool, typer.Option("--speaker", help="Play the binary frames on the loudspeaker.")
]
RateOption = Annotated[
    int | None,
    typer.Option(
        "--rate",
        metavar="HZ",
        min=1000,
        max=384_000,
        help="The rate of the agent's sound and the microphone's. Else that of --wav, else 24000.",
    ),
]
FrameMsOption = Annotated[
    float,
    typer.Option(
        "--frame-ms",
        metavar="MS",
        min=1,
        max=1000,
        help="How much sound a frame has, of --wav and --mic.",
    ),
]
TimestampsOption = Annotated[
    bool,
    typer.Option("--timestamps", "-T", help="Show both sides, each message with its time."),
]
HexOption = Annotated[
    bool, typer.Option("--hex", "-x", help="Like --timestamps, with binary messages in hex.")
]
ReconnectOption = Annotated[
    bool | None,
    typer.Option(
        "--reconnect/--no-reconnect",
        help="Come back to the session when the connection is lost. By default on a terminal.",
        show_default=False,
    ),
]
LingerOption = Annotated[
    float,
    typer.Option(
        "--linger-s",
        metavar="S",
        min=0,
        help="After everything is sent, close once nothing came for so long.",
    ),
]
