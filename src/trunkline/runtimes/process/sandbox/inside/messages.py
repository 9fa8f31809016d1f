"""The messages between a sandbox and the platform.

Each is JSON, with at most one descriptor. The platform's first is empty but for descriptors: a
file with the plan, the agent's output and its complaints, and the cgroups to join. (A nursery
gets the outputs later, ``nursery`` says when.) Then come
``listening`` with the socket of the way out, ``door`` with that of the door to the platform, and
``started`` just before the agent's program is executed, or ``failed`` with the reason, also after
``started``. The platform may ask to
``connect`` to a port inside, with a number of its choice; the answer with that number is
``connected`` with the connection, or ``refused``.
"""

import json
import os
import socket
from typing import Any

MAX_BYTES = 64 * 1024
_MAX_DESCRIPTORS = 16


def send(control: socket.socket, message: dict[str, Any], *descriptors: int) -> None:
    """Send one message. Nobody there to read it is fine."""
    try:
        socket.send_fds(control, [json.dumps(message).encode()], descriptors)
    except (BrokenPipeError, ConnectionResetError):
        return


def receive(control: socket.socket) -> tuple[dict[str, Any] | None, int | None]:
    """Return one message and the descriptor with it; None at the end.

    Raises:
        BlockingIOError: If there is none yet.
    """
    message, descriptors = receive_with(control, 1)
    return message, descriptors[0] if descriptors else None


def receive_with(control: socket.socket, most: int) -> tuple[dict[str, Any] | None, list[int]]:
    """Return one message and the descriptors with it, at most so many; None at the end.

    Raises:
        BlockingIOError: If there is none yet.
    """
    try:
        data, descriptors, _, _ = socket.recv_fds(control, MAX_BYTES, most)
    except ConnectionResetError:
        # The other end is gone and hasn't read all of ours. What it said before is still there.
        try:
            data, descriptors, _, _ = socket.recv_fds(control, MAX_BYTES, most)
        except ConnectionResetError:
            return None, []
    if not data:
        return None, []
    message: dict[str, Any] = json.loads(data)
    return message, list(descriptors)


def receive_plan(control: socket.socket) -> tuple[bytes, list[int]]:
    """Return the plan, and the descriptors that came with it."""
    _, descriptors, _, _ = socket.recv_fds(control, MAX_BYTES, _MAX_DESCRIPTORS)
    if not descriptors:
        # The platform went away.
        os._exit(0)
    with open(descriptors[0], "rb") as file:
        file.seek(0)
        return file.read(), list(descriptors[1:])
