"""``trunkline gateway``: what an operator does with a running platform."""

from typing import Annotated

import typer

from trunkline import config
from trunkline.cli import output
from trunkline.cli.exits import ExitCode
from trunkline.cli.options import OutputOption, StateDirOption, command_app, examples
from trunkline.cli.output import Format
from trunkline.platform.control_socket import request_reload

app = command_app("Look after the platform that runs on this machine.")


@app.callback()
def _group() -> None:
    pass


@app.command(
    epilog=examples(
        "trunkline gateway reload", "trunkline gateway reload --state-dir /var/lib/trunkline"
    )
)
def reload(
    *,
    state_dir: StateDirOption = None,
    pid: Annotated[
        int | None,
        typer.Option(
            "--pid",
            metavar="PID",
            help="Which platform, if several use the state directory: the process of its up.",
        ),
    ] = None,
    output_format: OutputOption = Format.TEXT,
) -> None:
    """Replace the running platform by what is installed now, without dropping a call.

    Waits until every connection has moved, and says how many did and how long they stood still.
    """
    report = request_reload(state_dir or config.default_state_dir(), pid)
    if "failed" in report:
        # Older platforms don't say.
        rest = "goes on as it is" if report.get("goes_on", True) else "ends"
        output.fail(f"the platform wasn't replaced and {rest}: {report['failed']}")
        raise typer.Exit(ExitCode.FAILED)
    if output_format is Format.JSON:
        output.put_json(report)
        return
    output.put(
        f"replaced: {report['connections_moved']} connections moved, each stood still for at most "
        f"{report['longest_pause_ms']:g} ms"
    )
    if report["encrypted_sent_away"]:
        output.put(
            f"{report['encrypted_sent_away']} connections whose TLS ends in the gateway were "
            "closed with 1001"
        )
    if report["left_behind"]:
        output.put(f"{report['left_behind']} connections couldn't be moved, and were closed")
