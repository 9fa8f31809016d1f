"""``trunkline completion``: what a shell needs to complete the command line."""

from typing import Annotated

import typer

from trunkline.cli import options, output
from trunkline.cli.completing import SCRIPTS, candidates

app = options.command_app("Print what a shell needs to complete this command's words.")


@app.command(
    "bash",
    epilog=options.examples(
        'eval "$(trunkline completion bash)"',
        "trunkline completion bash > ~/.local/share/bash-completion/completions/trunkline",
    ),
)
def bash() -> None:
    """Print the script for bash."""
    output.put(SCRIPTS["bash"].rstrip())


@app.command("zsh", epilog=options.examples("trunkline completion zsh > ~/.zfunc/_trunkline"))
def zsh() -> None:
    """Print the script for zsh."""
    output.put(SCRIPTS["zsh"].rstrip())


@app.command(
    "fish",
    epilog=options.examples(
        "trunkline completion fish > ~/.config/fish/completions/trunkline.fish"
    ),
)
def fish() -> None:
    """Print the script for fish."""
    output.put(SCRIPTS["fish"].rstrip())


@app.command("words", hidden=True, epilog=options.examples("trunkline completion words -- conn"))
def words(
    typed: Annotated[
        list[str] | None, typer.Argument(metavar="WORDS", help="What was typed so far.")
    ] = None,
) -> None:
    """Print what the last word may become, one a line: the scripts ask."""
    for word in candidates(typed or [""]):
        output.put(word)
