"""The keeper between a platform's process and the one that replaces it."""

import subprocess
import sys
import textwrap
from pathlib import Path

_PLATFORM = """
    import os, socket, sys, time
    from trunkline.aio.passing import Passing

    words = sys.argv[1:]
    line = Passing(socket.socket(fileno=int(words[words.index("--keeper") + 2])))
    if "--replace" in words:
        time.sleep(60)

    def ask(message, files=()):
        line.send(message, files)
        return line.receive()[0]

    def replace():
        ours, theirs = socket.socketpair()
        with ours, theirs:
            return ask({"do": "replace"}, [theirs.fileno()])

    first = replace()["pid"]
    assert ask({"do": "step down", "pid": first}) == {"errno": None}
    # It has been killed, as whoever asks again has seen, and takes a moment to end.
    killer = os.fork()
    if not killer:
        time.sleep(0.3)
        os.kill(first, 9)
        os._exit(0)
    second = replace()
    print("again", sorted(second), second.get("pid") != first, flush=True)
    os.kill(second["pid"], 9)
"""


def test_another_replacement_may_be_asked_for_while_the_first_is_ending(tmp_path: Path) -> None:
    script = tmp_path / "platform.py"
    script.write_text(textwrap.dedent(_PLATFORM))
    keeper = (
        "import sys; from trunkline.platform.keeper import Keeper; "
        f"sys.exit(Keeper([{sys.executable!r}, {str(script)!r}]).run())"
    )
    done = subprocess.run(
        [sys.executable, "-c", keeper], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "again ['pid'] True\n", done.stderr
    # It was called back, and ended without anybody having asked for that.
    assert done.returncode == 1
