"""Keeps two platforms from using one state directory, or one store's file, at once."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trunkline.protocol.errors import TrunklineError

_TRIES = 50
_PAUSE_S = 0.01


class StateDirInUseError(TrunklineError):
    """Another platform uses the state directory, or the store's file."""

    code = "state_dir_in_use"


class Locks:
    """The locks of this process. They go with it, however it ends."""

    def __init__(self, inherited: Sequence[int] = ()) -> None:
        """Prepare.

        Args:
            inherited: The files, in the order they were locked in, of the process that this one
                replaces: a lock stays while anybody has its file open.
        """
        self._inherited = list(inherited)
        self.files: list[int] = []
        """Those that are locked, in order."""

    @contextmanager
    def state_dir(self, path: Path, *, is_shared: bool) -> Iterator[None]:
        """Have the state directory for this process.

        Args:
            path: The directory; it is made.
            is_shared: Whether the store is shared: then so may be the state directory.

        Raises:
            StateDirInUseError: If it is in use.
        """
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
        with self._locked(path / "lock", f"the state directory {path}", "--state-dir", kind):
            yield

    @contextmanager
    def store_file(self, path: Path) -> Iterator[None]:
        """Have the store's file for this process.

        Raises:
            StateDirInUseError: If it is in use.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = path.with_name(f"{path.name}.lock")
        with self._locked(lock, f"the store {path}", "TRUNKLINE_STORE_URL", fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, path: Path, what: str, setting: str, kind: int) -> Iterator[None]:
        # Two platforms on one of these would start every session twice.
        if self._inherited:
            descriptor = self._inherited.pop(0)
        else:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _lock_soon(descriptor, kind):
                raise StateDirInUseError(
                    f"another trunkline uses {what}; stop it, or name another with {setting}"
                )
            self.files.append(descriptor)
            yield
        finally:
            os.close(descriptor)


def _lock_soon(descriptor: int, kind: int) -> bool:
    # A process whose keeper was killed ends a moment after it.
    for _ in range(_TRIES):
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        time.sleep(_PAUSE_S)
    return False
