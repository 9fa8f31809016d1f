"""Makes a session's network usable, from inside."""

import socket

from trunkline.runtimes.process.sandbox.inside import kernel
from trunkline.runtimes.process.sandbox.inside.messages import send
from trunkline.runtimes.process.sandbox.inside.plan import Plan

_BACKLOG = 128


def set_up_network(plan: Plan, control: socket.socket) -> None:
    """Bring loopback up in a network of our own, and give the platform what listens there."""
    if not plan.own_network:
        return
    kernel.bring_loopback_up()
    # The platform accepts at both, though its own network is another one.
    for name, port in (("listening", plan.proxy_port), ("door", plan.door_port)):
        if port:
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", port))
                listener.listen(_BACKLOG)
                send(control, {name: port}, listener.fileno())
