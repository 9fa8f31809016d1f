"""Makes a session's network usable, from inside."""

import os
import socket
from typing import Any

from trunkline.runtimes.process.sandbox.inside import kernel
from trunkline.runtimes.process.sandbox.inside.interface import set_up_interface
from trunkline.runtimes.process.sandbox.inside.messages import receive, send
from trunkline.runtimes.process.sandbox.inside.plan import Plan

_BACKLOG = 128
_IS_CARRIED = b"1"


def new_network(plan: Plan) -> int:
    """Return what to unshare for a network of our own; nothing if it is made by somebody else."""
    return kernel.CLONE_NEWNET if plan.own_network and plan.interface is None else 0


def take_line(plan: Plan, files: list[int]) -> socket.socket | None:
    """Take the line to who makes our network from what came with the plan, if it is there."""
    if plan.interface is None:
        return None
    line = socket.socket(fileno=files.pop())
    line.set_inheritable(False)
    return line


def set_up_network(plan: Plan, control: socket.socket, line: socket.socket | None) -> None:
    """Bring loopback up in a network of our own, and give the platform what listens there."""
    if not plan.own_network:
        return
    if line is not None:
        _enter_network(line)
    kernel.bring_loopback_up()
    # The platform accepts at both, though its own network is another one.
    for name, port in (("listening", plan.proxy_port), ("door", plan.door_port)):
        if port:
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", port))
                listener.listen(_BACKLOG)
                send(control, {name: port}, listener.fileno())


def wait_carried(plan: Plan, line: socket.socket | None) -> None:
    """Wait until there is an interface, if there is to be one, and set it up.

    Raises:
        OSError: If that can't be. Nobody should run on then.
    """
    if line is None or plan.interface is None:
        return
    message, carrier = receive(line)
    if message is None or carrier is None:
        raise _not_made(message)
    try:
        if line.recv(1) != _IS_CARRIED:
            raise OSError(0, "its interface: slirp4netns ended before it carried packets")
        set_up_interface(plan.interface, carrier)
    finally:
        os.close(carrier)


def _enter_network(line: socket.socket) -> None:
    with open("/proc/self/ns/user", "rb") as space:
        send(line, {"user": True}, space.fileno())
    message, network = receive(line)
    if message is None or network is None:
        raise _not_made(message)
    kernel.enter(network, kernel.CLONE_NEWNET)
    os.close(network)


def _not_made(message: dict[str, Any] | None) -> OSError:
    return OSError(0, str((message or {}).get("failed", "its interface: who makes it has ended")))
