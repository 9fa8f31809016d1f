"""The first process of a sandbox: reaps what ends, and opens connections for the platform."""

import errno
import os
import select
import signal
import socket
from typing import Any

from trunkline.runtimes.process.sandbox.inside.messages import receive, send


def serve_as_init(control: socket.socket, agent: int) -> int:
    """Serve until the agent ends; return how it ended, as Python puts it.

    A platform that goes away is not our affair: the kernel ends us with our parent.

    Args:
        control: The socket to the platform.
        agent: The agent's process id.
    """
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _note)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    while (status := _reap(agent)) is None:
        for descriptor, _ in poll.poll():
            if descriptor == wake_read:
                os.read(wake_read, 4096)
            else:
                message, _ = receive(control)
                if message is None:
                    poll.unregister(control)
                else:
                    connect_for(control, message)
    return os.waitstatus_to_exitcode(status)


def _note(*_: Any) -> None:
    """Only wake the loop up."""


def _reap(agent: int) -> int | None:
    """Take the ends of all that have ended; return the agent's status if it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == agent:
            return status
        if pid == 0:
            return None


def connect_for(control: socket.socket, message: dict[str, Any]) -> None:
    """Give the platform the connection to a port that it asks for, from the network we are in."""
    with socket.socket() as sock:
        sock.setblocking(False)
        result = sock.connect_ex(("127.0.0.1", int(message["connect"])))
        if result in (0, errno.EINPROGRESS):
            send(control, {"connected": message["number"]}, sock.fileno())
        else:
            send(control, {"refused": message["number"]})
