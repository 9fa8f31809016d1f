"""What the system knows of a connection."""

import asyncio
import fcntl
import struct
import termios


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Return how much of what was handed to the system the other side hasn't taken yet.

    0 where the system doesn't say.
    """
    connected = transport.get_extra_info("socket")
    try:
        answer = fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except (OSError, AttributeError):
        return 0
    return int(struct.unpack("i", answer)[0])
