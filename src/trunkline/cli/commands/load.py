"""``trunkline load``: a recording in many sessions at once."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from trunkline.cli import options, output
from trunkline.cli.commands.replay import parse_audio, parse_ignored
from trunkline.cli.exits import ExitCode
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.tables import put_table
from trunkline.cli.target import Where
from trunkline.client import Connection, Project
from trunkline.protocol.errors import TrunklineError
from trunkline.recordings.compare import Rules
from trunkline.recordings.format import read_recording
from trunkline.recordings.load import LoadResult, run_load
from trunkline.recordings.statistics import histogram, summary_ms, svg_of

app = options.command_app()

_DELETING_AT_ONCE = 8


@app.command(
    epilog=options.examples(
        "trunkline load call.trk echo --sessions 200 --ramp-s 10",
        "trunkline load call.trk echo --sessions 50 --plot latency.svg --output json",
    )
)
def load(  # noqa: PLR0913 - one parameter per option
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The recording.")],
    agent: options.AgentArgument,
    *,
    sessions: Annotated[
        int, typer.Option("--sessions", "-n", metavar="N", min=1, help="How many at once.")
    ] = 10,
    ramp_s: Annotated[
        float,
        typer.Option("--ramp-s", metavar="S", min=0, help="Over how long to spread the starts."),
    ] = 0.0,
    linger_s: Annotated[
        float,
        typer.Option(
            "--linger-s", metavar="S", min=0, help="How long to wait for what is missing."
        ),
    ] = 5.0,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="PATH", help="A place in JSON messages that may differ."),
    ] = None,
    audio: Annotated[
        str | None,
        typer.Option("--audio", metavar="FORM", help="Binary messages are sound: pcm16:24000."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="F.svg", help="Draw the latencies.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the sessions there, to look at their logs.")
    ] = False,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Play a recording with its timing in many sessions at once, and print the latencies.

    Each session is new, and deleted afterwards. Exits with 4 if an agent said something else
    than in the recording, with 1 if a session couldn't be had or broke.
    """
    recording = read_recording(file)
    rules = Rules(ignored=parse_ignored(ignore or []), audio=parse_audio(audio))
    where = Where(endpoint=endpoint, state_dir=state_dir, insecure_http=insecure_http)
    where, agent, _ = where.of_agent(agent, None)

    async def work() -> LoadResult:
        async with where.open() as project:

            async def dial() -> Connection:
                return await project.connect(agent)

            output.note(f"playing {recording.duration_s:.1f} s in {sessions} sessions...")
            result = await run_load(
                recording, dial, sessions=sessions, ramp_s=ramp_s, linger_s=linger_s, rules=rules
            )
            if not keep:
                await _delete(project, agent, result.sessions)
            return result

    result = run(work())
    if plot is not None:
        title = f"{file.name}: {sessions} sessions with {agent}"
        plot.write_text(svg_of(_series(result), title), encoding="utf-8")
    if output_format is Format.JSON:
        output.put_json(_document(result, sessions))
    else:
        _tell(result, sessions)
    if result.errors:
        raise typer.Exit(ExitCode.FAILED)
    if result.differing:
        raise typer.Exit(ExitCode.DIFFERENT)


async def _delete(project: Project, agent: str, sessions: list[str]) -> None:
    gate = asyncio.Semaphore(_DELETING_AT_ONCE)

    async def delete(session_id: str) -> None:
        async with gate:
            try:
                await project.delete_session(agent, session_id)
            except TrunklineError as exc:
                output.warn(f"session {session_id} is left: {exc}")

    await asyncio.gather(*map(delete, sessions))


def _series(result: LoadResult) -> dict[str, list[float]]:
    return {
        "connect": result.connect_s,
        "answer": result.answer_s,
        "later than recorded": result.late_s,
    }


def _tell(result: LoadResult, sessions: int) -> None:
    rows = []
    own = {"(sent late by this program)": result.send_late_s}
    for name, values in {**_series(result), **own}.items():
        summary = summary_ms(values)
        if summary:
            rows.append((name, str(len(values)), *(f"{value:.1f}" for value in summary.values())))
    put_table(("MILLISECONDS", "COUNT", "P50", "P90", "P95", "P99", "MAX"), rows)
    output.put("")
    for line in histogram(result.answer_s):
        output.put(line)
    output.put("")
    closes = ", ".join(f"{count} with {code}" for code, count in sorted(result.closes.items()))
    output.put(f"{len(result.connect_s)} of {sessions} sessions, {result.messages} messages")
    output.put(f"closed: {closes or 'none'}")
    for error, count in result.errors.most_common():
        output.put(f"failed: {count} with {error}")
    if result.differing:
        output.put(f"{result.differing} sessions said something else than the recording")


def _document(result: LoadResult, sessions: int) -> dict[str, Any]:
    return {
        "sessions": sessions,
        "connected": len(result.connect_s),
        "messages": result.messages,
        "differing": result.differing,
        "closes": {str(code): count for code, count in sorted(result.closes.items())},
        "errors": dict(result.errors),
        "connect_ms": summary_ms(result.connect_s),
        "answer_ms": summary_ms(result.answer_s),
        "late_ms": summary_ms(result.late_s),
        "send_late_ms": summary_ms(result.send_late_s),
    }
