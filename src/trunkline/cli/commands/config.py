"""``trunkline config``: the settings that a platform would start with here."""

from dataclasses import asdict
from typing import Annotated

import typer

from trunkline import config
from trunkline.cli import output
from trunkline.cli.options import OutputOption, StateDirOption, command_app, examples
from trunkline.cli.output import Format
from trunkline.cli.tables import put_table
from trunkline.platform import shown_settings

app = command_app("Look at the settings that `trunkline up` would start with here.")


@app.command(
    epilog=examples(
        "trunkline config check",
        "TRUNKLINE_GATEWAY_WORKERS=4 trunkline config check",
    )
)
def check(*, state_dir: StateDirOption = None) -> None:
    """Say whether the TRUNKLINE_* variables here, and the files they name, are good.

    Prints nothing if so. Else a line for each that is wrong, and ends with 2, as `trunkline up`
    would.
    """
    shown_settings.check(config.environment(), state_dir or config.default_state_dir())


@app.command(epilog=examples("trunkline config show", "trunkline config show --defaults"))
def show(
    *,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Those that are at their default, too.")
    ] = False,
    state_dir: StateDirOption = None,
    output_format: OutputOption = Format.TEXT,
) -> None:
    """Show the settings that the environment sets here, and their defaults.

    What may hold a password is shown as (set).
    """
    where = state_dir or config.default_state_dir()
    found = [
        each
        for each in shown_settings.shown(config.environment(), where)
        if defaults or each.is_set
    ]
    if output_format is Format.JSON:
        output.put_json([asdict(each) for each in found])
        return
    if not found:
        output.say("no TRUNKLINE_* variable sets anything here; --defaults shows the defaults")
        return
    put_table(
        ("VARIABLE", "VALUE", "DEFAULT"),
        [(each.variable, each.value, each.default) for each in found],
    )
