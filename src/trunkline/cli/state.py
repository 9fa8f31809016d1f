"""What the command remembers from one run to the next: the last session with each agent."""

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

_FILE = Path("cli") / "sessions.json"
#: Enough for years of work; without a bound the file would only ever grow.
MAX_REMEMBERED = 500


class SessionMemory:
    """The last session used with each agent of each project.

    Several commands may run at once: the file is replaced as a whole, and the last one wins.
    """

    def __init__(self, state_dir: Path, user_identity: str | None = None) -> None:
        """Open the memory.

        Args:
            state_dir: The state directory it is kept in.
            user_identity: On whose behalf the sessions are used, if not one's own: they are
                nobody else's, and kept apart.
        """
        self._path = state_dir / _FILE
        self._user_identity = user_identity

    def find(self, endpoint: str, agent: str) -> str | None:
        """Return the id of the last session with an agent, if there was one."""
        known = self._read().get(self._key(endpoint, agent))
        return known if isinstance(known, str) else None

    def remember(self, endpoint: str, agent: str, session_id: str) -> None:
        """Keep the id of a session that was just used.

        A directory that can't be written is no reason to fail a conversation.
        """
        sessions = self._read()
        key = self._key(endpoint, agent)
        if sessions.get(key) == session_id:
            return
        sessions.pop(key, None)
        sessions[key] = session_id
        newest = dict(list(sessions.items())[-MAX_REMEMBERED:])
        with contextlib.suppress(OSError):
            self._write(json.dumps(newest, indent=1))

    def agents(self) -> list[str]:
        """Return the names of the agents that were used from here."""
        return sorted({key.rpartition("/agents/")[2] for key in self._read()})

    def forget(self, endpoint: str, agent: str, session_id: str) -> None:
        """Forget a session that is gone, if it is the one that is kept."""
        sessions = self._read()
        if sessions.get(self._key(endpoint, agent)) == session_id:
            del sessions[self._key(endpoint, agent)]
            with contextlib.suppress(OSError):
                self._write(json.dumps(sessions, indent=1))

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def _write(self, text: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
            draft.replace(self._path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def _key(self, endpoint: str, agent: str) -> str:
        user = "" if self._user_identity is None else f"{self._user_identity} at "
        return f"{user}{endpoint}/agents/{agent}"
