"""What the agent knows about its caller, and the file it keeps that in.

The file is in ``$HOME``, which belongs to the session and outlives the process: whoever comes back
with the same session id is known again.
"""

import dataclasses
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Memory:
    """All there is to remember."""

    name: str | None = None
    turns: int = 0
    volume: int = 5
    last_said: str = ""


class MemoryFile:
    """The memory of one session. Connections that share a session share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.memory = self._load()

    def keep(self, memory: Memory) -> None:
        """Remember from now on.

        A reader sees the old file or the new one, never half of it, even if the process is killed
        in the middle. It isn't synced: what a power cut takes may be asked again.
        """
        self.memory = memory
        text = json.dumps(dataclasses.asdict(memory), ensure_ascii=False, indent=1)
        handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".conversation-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).replace(self._path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _load(self) -> Memory:
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return Memory()
        try:
            return _parse(json.loads(text))
        except (ValueError, TypeError) as error:
            print(f"{self._path.name} can't be read ({error}): starting afresh", flush=True)
            return Memory()


def _parse(fields: object) -> Memory:
    if not isinstance(fields, dict):
        raise TypeError("it isn't an object")
    memory = Memory(**fields)
    wanted = {"name": str | None, "turns": int, "volume": int, "last_said": str}
    for name, kind in wanted.items():
        if not isinstance(getattr(memory, name), kind):
            raise TypeError(f"{name} has the wrong type")
    return memory
