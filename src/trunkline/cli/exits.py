"""The exit codes, which scripts rely on."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command ends with."""

    OK = 0
    """It did what was asked."""
    FAILED = 1
    """It didn't: the platform refused, is not there, or the agent failed."""
    USAGE = 2
    """The command line, a file or a setting is wrong, and nothing was done."""
    CLOSED = 3
    """``connect`` only: the conversation was ended otherwise than by 1000."""
    DIFFERENT = 4
    """``replay`` and ``load`` only: the agent did something else than in the recording."""
    INTERRUPTED = 130
    """Ctrl-C, as shells have it."""
