"""``trunkline replay``: a recording against an agent as it is today."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from trunkline.cli import options, output
from trunkline.cli.exits import ExitCode
from trunkline.cli.matchers import load_matcher
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.sinks import describe_close
from trunkline.cli.target import Where
from trunkline.recordings.audio import AudioFormat
from trunkline.recordings.compare import Difference, Kind, Rules, compare, compare_close
from trunkline.recordings.format import Recording, TimedMessage, read_recording
from trunkline.recordings.junit import junit_of, shown
from trunkline.recordings.paths import JsonPaths
from trunkline.recordings.player import Played, Player
from trunkline.recordings.statistics import summary_ms

app = options.command_app()

_SHOWN_CHARS = 200


@app.command(
    epilog=options.examples(
        "trunkline replay call.trk echo",
        "trunkline replay call.trk echo --fast --ignore '$.id' --ignore '..timestamp'",
        "trunkline replay call.trk voice --audio pcm16:24000",
        "trunkline replay call.trk echo --matcher same.py:match --junit replay.xml",
    )
)
def replay(  # noqa: PLR0913 - one parameter per option
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The recording.")],
    agent: options.AgentArgument,
    *,
    session_id: options.SessionOption = None,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Don't keep the timing: send as soon as the agent is as far."),
    ] = False,
    linger_s: Annotated[
        float,
        typer.Option(
            "--linger-s", metavar="S", min=0, help="How long to wait for what is missing."
        ),
    ] = 2.0,
    exact: Annotated[
        bool, typer.Option("--exact", help="JSON messages must be the same text, to the space.")
    ] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore", metavar="PATH", help="A place in JSON messages that may differ: $.id, ..id."
        ),
    ] = None,
    audio: Annotated[
        str | None,
        typer.Option(
            "--audio",
            metavar="FORM",
            help="Binary messages are sound (pcm16:24000, mulaw:8000): compare length and level.",
        ),
    ] = None,
    duration_tolerance: Annotated[
        float,
        typer.Option("--duration-tolerance", metavar="PART", min=0, help="How much longer."),
    ] = 0.1,
    level_tolerance_db: Annotated[
        float, typer.Option("--level-tolerance-db", metavar="DB", min=0, help="How much louder.")
    ] = 3.0,
    matcher: Annotated[
        str | None,
        typer.Option("--matcher", metavar="FILE.py:NAME", help="A Python function that compares."),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="F", help="Write the outcome for CI.")
    ] = None,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Play the client's side of a recording to an agent, and show where its side differs.

    Exits with 0 if nothing differs, with 4 if something does.
    """
    recording = read_recording(file)
    rules = Rules(
        ignored=parse_ignored(ignore or []),
        is_exact=exact,
        audio=parse_audio(audio),
        duration_tolerance=duration_tolerance,
        level_tolerance_db=level_tolerance_db,
        matcher=load_matcher(matcher) if matcher else None,
    )
    if not recording.is_whole:
        output.warn(f"{file} ends in the middle of a frame: the recorder was killed")
    where = Where(endpoint=endpoint, state_dir=state_dir, insecure_http=insecure_http)
    memory = where.memory()
    where, agent, session_id = where.of_agent(agent, session_id)

    async def work() -> tuple[str, Played]:
        async with where.open() as project:
            async with project.connect(agent, session_id=session_id) as connection:
                output.note(f"session {connection.session_id}")
                memory.remember(project.endpoint.url, agent, connection.session_id)
                player = Player(recording, is_fast=fast, linger_s=linger_s)
                return connection.session_id, await player.play(connection)

    sid, played = run(work())
    expected = recording.messages(from_agent=True)
    found = compare(expected, played.received, rules)
    found += compare_close(recording.close, played.close)
    if junit is not None:
        took_s = max((m.at_s for m in (*played.sent, *played.received)), default=0.0)
        junit.write_text(junit_of(file.name, expected, found, took_s), encoding="utf-8")
    if output_format is Format.JSON:
        output.put_json(_document(recording, played, found, agent, sid))
    else:
        _tell(recording, played, found, expected)
    if found:
        raise typer.Exit(ExitCode.DIFFERENT)


def parse_ignored(patterns: Sequence[str]) -> JsonPaths:
    """Read the paths of ``--ignore``."""
    try:
        return JsonPaths(*patterns)
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--ignore") from None


def parse_audio(text: str | None) -> AudioFormat | None:
    """Read ``--audio``."""
    try:
        return AudioFormat.parse(text) if text else None
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--audio") from None


def _tell(
    recording: Recording,
    played: Played,
    found: list[Difference],
    expected: Sequence[TimedMessage],
) -> None:
    sent = len(recording.messages(from_agent=False))
    late = summary_ms(played.late_s)
    said = f", {late['p50']} ms late at the median (at most {late['max']})" if late else ""
    output.note(f"sent {len(played.sent)} of {sent} messages{said}")
    output.note(f"received {len(played.received)} messages, {len(expected)} are recorded")
    output.note(describe_close(played.close.code, played.close.reason))
    for difference in found:
        _tell_one(difference)
    if found:
        count = len(found)
        output.put(f"{count} difference{'s' * (count != 1)}")
    else:
        output.put("no difference")


def _tell_one(difference: Difference) -> None:
    place = "" if difference.index is None else f" message {difference.index + 1}"
    output.put(f"{difference.kind}{place}")
    for sign, side, colour in (
        ("-", difference.recorded, output.RED),
        ("+", difference.received, output.GREEN),
    ):
        if side is not None:
            line = f"  {sign} {side.at_s:9.3f} s  {shown(side, _SHOWN_CHARS)}"
            output.put(output.coloured(line, colour, sys.stdout))
    for line in difference.detail:
        output.put(f"    {line}")


def _document(
    recording: Recording, played: Played, found: list[Difference], agent: str, session_id: str
) -> dict[str, Any]:
    close = recording.close
    return {
        "agent": agent,
        "session_id": session_id,
        "sent": len(played.sent),
        "received": len(played.received),
        "recorded": len(recording.messages(from_agent=True)),
        "late_ms": summary_ms(played.late_s),
        "close": {"code": played.close.code, "reason": played.close.reason},
        "recorded_close": {"code": close.code, "reason": close.reason} if close else None,
        "differences": [_difference(difference) for difference in found],
    }


def _difference(difference: Difference) -> dict[str, Any]:
    document: dict[str, Any] = {"kind": str(difference.kind)}
    if difference.index is not None:
        document["message"] = difference.index + 1
    for name, side in (("recorded", difference.recorded), ("received", difference.received)):
        if side is not None:
            document[name] = {"at_s": round(side.at_s, 6), "message": shown(side)}
    if difference.kind is not Kind.MISSING and difference.detail:
        document["detail"] = list(difference.detail)
    return document
