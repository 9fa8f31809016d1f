"""What a machine refuses a platform that starts, in words: whoever starts it can mend that."""

import errno
from pathlib import Path
from typing import Final

_OTHER: Final = "name another directory with --state-dir"
_ABOUT_DIRECTORY: Final = {
    errno.ENOSPC: f"free some space, or {_OTHER}",
    errno.EDQUOT: f"free some space, or {_OTHER}",
    errno.EROFS: _OTHER,
    errno.EACCES: f"give this user the directory, or {_OTHER}",
    errno.EPERM: f"give this user the directory, or {_OTHER}",
    errno.ENOENT: _OTHER,
    errno.EEXIST: f"it has to be a directory; {_OTHER}",
    errno.ENOTDIR: f"it has to be a directory; {_OTHER}",
}
_FEW: Final = (
    "the system has too few file descriptors for the platform ({error.strerror}); raise the hard "
    "limit (`ulimit -n` as root, LimitNOFILE= of a service, --ulimit nofile= of a container)"
)


def in_words(error: OSError, state_dir: Path) -> str | None:
    """Return what to tell whoever starts a platform; None if it isn't theirs to mend.

    Args:
        error: What came of something the platform did.
        state_dir: Where it was to keep its state.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return _FEW.format(error=error)
    advice = _ABOUT_DIRECTORY.get(error.errno or 0)
    if advice is None:
        return None
    named = error.filename if isinstance(error.filename, str) else None
    is_out_of_space = error.errno in (errno.ENOSPC, errno.EDQUOT)
    if not is_out_of_space and (named is None or not _concerns(Path(named), state_dir)):
        return None
    where = "" if named in (None, str(state_dir)) else f" ({named})"
    return f"can't keep state in {state_dir}: {error.strerror}{where}; {advice}"


def _concerns(path: Path, state_dir: Path) -> bool:
    return state_dir.is_relative_to(path) or path.is_relative_to(state_dir)
