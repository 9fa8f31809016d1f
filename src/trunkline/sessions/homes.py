"""The directories of sessions: made when they are needed, gone in one step."""

import contextlib
import hashlib
import math
import os
import secrets
import time
from pathlib import Path

from trunkline.protocol.ids import NodeId, SessionKey
from trunkline.sessions.removal import remove_tree

_TRASH = ".trash"
_UPLOADS = ".uploads"
_AHEAD = ".ahead"
#: Nobody sends a file for so long without a byte of it arriving.
_UPLOAD_LIFETIME_S = 24 * 3600.0


class SessionHomes:
    """Every session's directory: ``HOME/home`` is the agent's ``$HOME``, ``HOME/logs`` its logs."""

    def __init__(self, sessions_dir: Path) -> None:
        self._sessions_dir = sessions_dir

    def path(self, home: str) -> Path:
        """Return the agent's ``$HOME``, which need not be there."""
        return self._sessions_dir / home / "home"

    def prepare(self, home: str) -> Path:
        """Return the agent's ``$HOME``, making it if it isn't there."""
        path = self.path(home)
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def upload_path(self) -> Path:
        """Return a path for a file that is to be moved into a home when it is complete."""
        folder = self._sessions_dir / _UPLOADS
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder / secrets.token_hex(16)

    def remove(self, home: str) -> None:
        """Remove a session's directory with all that is in it. Twice is fine.

        It is moved aside first, so that no half of it is ever found under its name.
        """
        trash = self._sessions_dir / _TRASH
        trash.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = trash / f"{home}-{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            (self._sessions_dir / home).rename(aside)
            _remove_from(trash, aside.name)

    def prepare_ahead(self, home: str, node: NodeId) -> None:
        """Note that a home is made for a session that is nobody's yet."""
        notes = self._sessions_dir / _AHEAD / node
        notes.mkdir(parents=True, exist_ok=True, mode=0o700)
        (notes / home).touch(mode=0o600)

    def keep_ahead(self, home: str, node: NodeId) -> None:
        """Note that it is somebody's from here on. Twice is fine."""
        (self._sessions_dir / _AHEAD / node / home).unlink(missing_ok=True)

    def remove_ahead(self, node: NodeId | None = None) -> None:
        """Remove homes of nobody's sessions that a platform process left when it died.

        Args:
            node: That process. None: all of them, because nobody else can be at work.
        """
        for note in (self._sessions_dir / _AHEAD).glob(f"{node or '*'}/*"):
            self.remove(note.name)
            note.unlink(missing_ok=True)

    def empty_trash(self, *, is_alone: bool) -> None:
        """Remove what a platform that ended in the middle of something left behind.

        Args:
            is_alone: Whether no other platform can be in the middle of anything.
        """
        trash = self._sessions_dir / _TRASH
        for path in trash.glob("*"):
            # What can't be removed now is tried again at the next start.
            with contextlib.suppress(OSError):
                _remove_from(trash, path.name)
        before = math.inf if is_alone else time.time() - _UPLOAD_LIFETIME_S  # noqa: TID251
        for path in (self._sessions_dir / _UPLOADS).glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()


def _remove_from(trash: Path, name: str) -> None:
    directory = os.open(trash, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(directory, os.fsencode(name))
    finally:
        os.close(directory)


def new_home(key: SessionKey) -> str:
    """Return a name for the directory of a new session."""
    # Names may be anything the contract allows, up to 256 characters and case-sensitive; a
    # directory's name is a digest of them so that every file system takes it. It is never used
    # again: what is still done for a session that was deleted can't touch the next of its name.
    text = "\0".join((key.project, key.agent, key.session_id))
    return hashlib.sha256(text.encode()).hexdigest()[:16] + secrets.token_hex(8)
