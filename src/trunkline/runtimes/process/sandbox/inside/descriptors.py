"""Keeps open files from those who mustn't have them."""

import os


def close_all_but(*kept: int) -> None:
    """Close every descriptor from 3 on, but those."""
    low = 3
    for descriptor in sorted(kept):
        os.closerange(low, descriptor)
        low = max(low, descriptor + 1)
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def to_nowhere(flags: int, *descriptors: int) -> None:
    """Have descriptors lead to ``/dev/null``."""
    nowhere = os.open(os.devnull, flags)
    for descriptor in descriptors:
        if descriptor != nowhere:
            os.dup2(nowhere, descriptor)
    if nowhere not in descriptors:
        os.close(nowhere)
