"""``trunkline env``: the values that fill the placeholders of an ``agent.yaml``."""

from pathlib import Path
from typing import Annotated

import typer

from trunkline.cli import options, output
from trunkline.cli.output import Format
from trunkline.manifest.env_files import Environments, find_project_root, parse_assignment

app = options.command_app("Keep the values that fill the placeholders of an agent.yaml.")

NameOption = Annotated[
    str | None,
    typer.Option("--environment", "-e", metavar="NAME", help="Not the selected one, but this."),
]


def _environments() -> Environments:
    return Environments(find_project_root(Path.cwd()))


@app.command(
    "set",
    epilog=options.examples(
        "trunkline env set GREETING hello", "trunkline env set GREETING=hello --environment prod"
    ),
)
def set_value(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A name, or KEY=VALUE.")],
    value: Annotated[str | None, typer.Argument(metavar="VALUE", help="Its value.")] = None,
    *,
    environment: NameOption = None,
) -> None:
    """Set one value: KEY VALUE, or KEY=VALUE."""
    if value is None:
        key, value = parse_assignment(key)
    _environments().set({key: value}, environment)


@app.command(
    "get-values",
    epilog=options.examples(
        "trunkline env get-values", 'set -a; eval "$(trunkline env get-values)"; set +a'
    ),
)
def get_values(
    *,
    environment: NameOption = None,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Print the values as KEY="value" lines, which a shell can read."""
    environments = _environments()
    if output_format is Format.JSON:
        output.put_json(environments.values(environment))
        return
    for line in environments.lines(environment):
        output.put(line)


@app.command("list", epilog=options.examples("trunkline env list"))
def list_environments(*, output_format: options.OutputOption = Format.TEXT) -> None:
    """List the environments; a star marks the selected one."""
    environments = _environments()
    selected = environments.selected
    if output_format is Format.JSON:
        output.put_json(
            [{"name": name, "selected": name == selected} for name in environments.names()]
        )
        return
    for name in environments.names():
        output.put(f"{'*' if name == selected else ' '} {name}")


@app.command("select", epilog=options.examples("trunkline env select prod"))
def select(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The environment.")],
) -> None:
    """Choose the environment that commands use in this project."""
    _environments().select(name)
