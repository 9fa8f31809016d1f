"""A command that takes a ``where`` has the four options it is made of."""

import inspect
from pathlib import Path

import pytest
from typer.main import get_command

from trunkline.cli import options
from trunkline.cli.target import Where
from trunkline.cli.target_options import takes_where


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Where()),
        (
            ["--endpoint", "http://h/api/projects/p", "--state-dir", "/s", "--insecure-http",
             "--user-identity", "ada"],
            Where(
                endpoint="http://h/api/projects/p", state_dir=Path("/s"), insecure_http=True,
                user_identity="ada",
            ),
        ),
    ],
)  # fmt: skip
def test_what_they_say_is_given_to_the_command(words: list[str], expected: Where) -> None:
    app, got = options.command_app(), []

    @app.command()
    @takes_where
    def _ask(agent: options.AgentArgument, *, where: Where, last: str = "none") -> None:
        """Ask."""
        got.append((agent, where, last))

    get_command(app).main(["echo", *words, "--last", "one"], standalone_mode=False)
    assert got == [("echo", expected, "one")]


def test_they_stand_where_it_stood() -> None:
    @takes_where
    def command(agent: str, *, first: str, where: Where, last: str) -> None:
        """Do nothing."""

    assert list(inspect.signature(command).parameters) == [
        "agent", "first", "endpoint", "state_dir", "insecure_http", "user_identity", "last"
    ]  # fmt: skip
    assert command.__doc__ == "Do nothing."
