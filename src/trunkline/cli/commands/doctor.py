"""``trunkline doctor``: what this machine gives the platform, and what it lacks."""

import asyncio
import dataclasses

import typer

from trunkline import config
from trunkline.cli import output
from trunkline.cli.exits import ExitCode
from trunkline.cli.options import OutputOption, command_app, examples
from trunkline.cli.tables import put_table
from trunkline.platform.doctor import check_sandbox

app = command_app()


@app.command(epilog=examples("trunkline doctor", "trunkline doctor --output json"))
def doctor(
    *,
    output_format: OutputOption = output.Format.TEXT,
) -> None:
    """Try what this machine can do for the platform, with the settings of this environment.

    Nothing is changed. Ends with 1 if something is missing.
    """
    checks = asyncio.run(check_sandbox(config.environment()))
    if output_format is output.Format.JSON:
        output.put_json([dataclasses.asdict(check) for check in checks])
    else:
        rows = [(c.name, "ok" if c.is_ok else "MISSING", c.text) for c in checks]
        put_table(("CHECK", "", "WHAT"), rows)
    if not all(check.is_ok for check in checks):
        raise typer.Exit(ExitCode.FAILED)
