"""What programs read: the shape of what each command prints with ``--output json``.

``json_shapes.txt`` has a line for each. A change there is a change to programs that read it:
keys may be added, and the changelog says so; none may go. To write it anew, run
``python -m tests.integration.cli.test_json``.
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest
from typer.main import get_command

from tests.integration.cli.box import AGENT_YAML, Box
from tests.support.shapes import shape
from trunkline.cli import table

RECORDED = Path(__file__).with_name("json_shapes.txt")
#: A command, and what it reads from stdin. Each goes on where the one before left things.
WALK: tuple[tuple[str, str], ...] = (
    ("init made", ""),
    ("deploy", ""),
    ("list", ""),
    ("show parrot", ""),
    ("endpoint show parrot", ""),
    ("endpoint update card", ""),
    ("sessions create parrot --session-id s1", ""),
    ("connect parrot --session-id s1 --linger-s 0.3", "hi\n"),
    ("record call.trk parrot --linger-s 0.3", "hi\n"),
    ("replay call.trk parrot --linger-s 0.3", ""),
    ("load call.trk parrot --sessions 1 --linger-s 0.3", ""),
    ('invoke parrot {"a":1} --session-id s1', ""),
    ("monitor parrot --session-id s1", ""),
    ("why parrot --session-id s1", ""),
    ("sessions list parrot", ""),
    ("sessions show parrot s1", ""),
    ("files upload parrot main.py --session-id s1", ""),
    ("files list parrot --session-id s1", ""),
    ("files stat parrot main.py --session-id s1", ""),
    ("code download parrot --dest code", ""),
    ("env get-values", ""),
    ("env list", ""),
    ("secret set NAME", "value"),
    ("secret list", ""),
    ("keys create ci --role invoker", ""),
    ("keys list", ""),
    ("revoke dev|somebody", ""),
    ("revoke --list", ""),
    ("audit --limit 5", ""),
    ("config show --defaults", ""),
    ("doctor", ""),
    ("gateway reload", ""),
    ("delete parrot --force", ""),
)
#: What they print is a line for each frame or event.
BY_LINE = {"connect", "record", "monitor"}


def name_of(command: str) -> str:
    words = command.split()
    is_group = hasattr(get_command(table.load_app(words[0])), "commands")
    return " ".join(words[: 2 if is_group else 1])


def prints_json(command: str) -> bool:
    words = command.split()
    found = get_command(table.load_app(words[0]))
    for word in words[1:]:
        found = found.commands[word]  # type: ignore[attr-defined]
    return any("--output" in param.opts for param in found.params)


def shapes(box: Box) -> dict[str, str]:
    found: dict[str, str] = {}
    card = box.project / "card"
    card.mkdir()
    (card / "main.py").touch()
    (card / "agent.yaml").write_text(f"{AGENT_YAML}agent_card: {{description: It repeats.}}\n")
    for command, stdin in WALK:
        name = name_of(command)
        is_json = prints_json(name)
        done = box.run(*command.split(), *(["--output", "json"] if is_json else []), stdin=stdin)
        # A machine that lacks something has a doctor that says so.
        assert done.returncode == 0 or name == "doctor", f"{command}: {done.stderr}"
        if is_json:
            documents = done.stdout.splitlines() if name in BY_LINE else [done.stdout]
            key = "revoke --list" if command == "revoke --list" else name
            found[key] = " | ".join(sorted({shape(json.loads(each)) for each in documents}))
    return found


def written(found: dict[str, str]) -> str:
    return "".join(f"{name}: {found[name]}\n" for name in found)


def test_every_command_that_prints_json_is_in_the_walk() -> None:
    every = set()
    for name in table.COMMANDS:
        inner = getattr(get_command(table.load_app(name)), "commands", None)
        every |= (
            {name}
            if inner is None
            else {f"{name} {sub}" for sub, each in inner.items() if not each.hidden}
        )
    walked = {name_of(command) for command, _ in WALK}
    assert {name for name in every if prints_json(name)} <= walked


@pytest.mark.timeout(240)
def test_the_shapes_are_those_that_were_recorded(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.start()
    try:
        assert written(shapes(box)) == RECORDED.read_text()
    finally:
        box.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = Box(Path(folder))
        made.start()
        try:
            RECORDED.write_text(written(shapes(made)))
        finally:
            made.stop()
    sys.stdout.write(RECORDED.read_text())
