"""The entry point: finds the command, runs it, and turns what goes wrong into one line."""

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

from trunkline import __version__
from trunkline.cli import output, table
from trunkline.cli.exits import ExitCode


class LazyGroup(TyperGroup):
    """The group of all commands, each imported when it is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # The names are enough for listing them and for "did you mean".
        names: dict[str, Any] = dict.fromkeys(table.COMMANDS)
        self.commands = names

    def list_commands(self, ctx: Any) -> list[str]:
        return list(table.COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in table.COMMANDS:
            return None
        command = get_command(table.load_app(cmd_name))
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in table.COMMANDS.items()])


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nBegin with:\n  trunkline init my-agent && cd my-agent && trunkline run\n"
    "  trunkline connect my-agent --endpoint local      (in another terminal)",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        output.put(f"trunkline {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback of an error.")
    ] = False,
) -> None:
    """Host real-time agents behind one WebSocket, and talk to them."""
    del version, debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after the program's name; those of this process if None.

    Returns:
        The exit code, see :class:`trunkline.cli.exits.ExitCode`.
    """
    words, is_debug = take_debug(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; there is nobody left to tell.
        return ExitCode.FAILED
    except Exception as exc:  # noqa: BLE001 - the outermost frame: every error becomes one line
        if is_debug:
            traceback.print_exc()
        line, code = table.describe_failure(exc)
        output.fail(line)
        return code


def _run(words: list[str]) -> int:
    code: Any
    try:
        code = get_command(app).main(args=words, prog_name="trunkline", standalone_mode=False)
    except SystemExit as exc:
        code = exc.code
    except TyperException as exc:
        _tell_misuse(exc)
        code = exc.exit_code
    except typer.Abort:
        output.fail("aborted")
        code = ExitCode.FAILED
    return code if isinstance(code, int) else ExitCode.OK


def _tell_misuse(exc: TyperException) -> None:
    """Tell what was wrong with a command line as everything else is told."""
    context: Any = getattr(exc, "ctx", None)
    message = exc.format_message()
    if context is not None:
        if message == context.get_help():
            # Nothing was asked for.
            output.say(message)
            return
        output.say(context.get_usage())
        output.say(f"Try '{context.command_path} {context.help_option_names[0]}' for help.\n")
    output.fail(message)


def take_debug(words: Sequence[str]) -> tuple[list[str], bool]:
    """Take ``--debug`` out of a command line, wherever it stands before a ``--``."""
    end = words.index("--") if "--" in words else len(words)
    head = [word for word in words[:end] if word != "--debug"]
    return [*head, *words[end:]], len(head) != end
