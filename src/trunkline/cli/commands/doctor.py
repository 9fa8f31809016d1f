"""``trunkline doctor``: what this machine, this project and the platform lack."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from trunkline.cli import options, output
from trunkline.cli.checks import Check, Status, local_checks, remote_checks
from trunkline.cli.exits import ExitCode
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.target import Where

app = options.command_app()

_GLYPHS = {
    Status.PASS: ("(✓)", output.GREEN),
    Status.WARN: ("(!)", output.CYAN),
    Status.FAIL: ("(x)", output.RED),
    Status.SKIP: ("(-)", output.DIM),
    Status.INFO: ("(i)", output.DIM),
}
_COUNTED = {
    Status.PASS: "passed",
    Status.FAIL: "failed",
    Status.SKIP: "skipped",
    Status.WARN: "warned",
    Status.INFO: "info",
}
_SCHEMA_VERSION = "1.0"


@app.command(
    epilog=options.examples(
        "trunkline doctor",
        "trunkline doctor --local-only",
        "trunkline doctor ./my-agent --output json",
    )
)
def doctor(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[DIR|NAME]",
            help="The agent's folder, or a service of the project's azure.yaml.",
            show_default=False,
        ),
    ] = None,
    *,
    local_only: Annotated[bool, typer.Option("--local-only", help="Ask no platform.")] = False,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Look at this machine, the project here, and the platform commands would talk to.

    Nothing is changed. Ends with 1 if something is wrong, and says what to do.
    """
    where = Where(endpoint=endpoint, state_dir=state_dir, insecure_http=insecure_http)

    async def work() -> list[Check]:
        checks = [check async for check in local_checks(target, where)]
        if not local_only:
            checks += [check async for check in remote_checks(target, where)]
        return checks

    checks = run(work())
    if output_format is Format.JSON:
        output.put_json(
            {
                "schemaVersion": _SCHEMA_VERSION,
                "remote": not local_only,
                "checks": [asdict(check) for check in checks],
            }
        )
    else:
        _put(checks)
    raise typer.Exit(exit_code(checks))


def exit_code(checks: Sequence[Check]) -> ExitCode:
    """Return how the command ends."""
    statuses = {check.status for check in checks}
    if Status.FAIL in statuses:
        return ExitCode.FAILED
    return ExitCode.OK if statuses - {Status.SKIP} else ExitCode.USAGE


def _put(checks: Sequence[Check]) -> None:
    section = ""
    for check in checks:
        head = check.id.partition(".")[0].capitalize()
        if head != section:
            output.put(("\n" if section else "") + head)
            section = head
        glyph, colour = _GLYPHS[check.status]
        first, *more = check.message.splitlines() or [""]
        name = check.id.partition(".")[2]
        output.put(f"  {output.coloured(glyph, colour, sys.stdout)} {name}: {first}")
        for line in more:
            output.put(f"      {line}")
    counts = Counter(check.status for check in checks)
    shown = [s for s in _COUNTED if counts[s] or s in (Status.PASS, Status.FAIL, Status.SKIP)]
    output.put("\n" + ", ".join(f"{counts[status]} {_COUNTED[status]}" for status in shown))
    to_do = [c for c in checks if c.advice and c.status in (Status.FAIL, Status.WARN)]
    if to_do:
        output.put("\nTo fix:")
        for check in to_do:
            output.put(f"  {check.id}: {check.advice}")
