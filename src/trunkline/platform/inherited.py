"""What a process of the platform has from the one that started it."""

import ctypes
import os
import signal
import socket

_PR_SET_PDEATHSIG = 1


def inherited(file: int) -> socket.socket:
    """Return a socket that this process was started with; what it starts doesn't get it."""
    os.set_inheritable(file, False)
    return socket.socket(fileno=file)


def die_with(parent: int) -> bool:
    """Have the kernel end this process when its parent ends; tell whether that still lives."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    return os.getppid() == parent
