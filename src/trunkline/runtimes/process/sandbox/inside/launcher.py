"""Makes a sandbox around one agent and starts it there.

Three processes come of it. The launcher is the platform's child: it ends as the agent ended, and
its end is the end of the sandbox. ``init`` is the first process inside: it reaps, and opens
connections in the session's network for the platform. The agent is ``init``'s child. All are in
the launcher's process group, of which only the agent heeds SIGTERM.

The launcher connects to the platform's control socket, whose messages ``messages`` describes.
"""

import os
import resource
import signal
import socket
import sys
from typing import NoReturn

from trunkline.runtimes.process.sandbox.inside import kernel
from trunkline.runtimes.process.sandbox.inside.confine import give_up_powers, map_own_user
from trunkline.runtimes.process.sandbox.inside.descriptors import to_nowhere
from trunkline.runtimes.process.sandbox.inside.init import serve_as_init
from trunkline.runtimes.process.sandbox.inside.messages import receive_plan, send
from trunkline.runtimes.process.sandbox.inside.mounts import enter_view
from trunkline.runtimes.process.sandbox.inside.network import (
    new_network,
    set_up_network,
    take_line,
    wait_carried,
)
from trunkline.runtimes.process.sandbox.inside.plan import Plan, decode

_NOT_RUN = 127
_OWN_NAMESPACES = (
    kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
)
_FOR_THE_AGENT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> NoReturn:
    """Run one agent in a sandbox; the first argument is the control socket's path."""
    for number in _FOR_THE_AGENT:
        signal.signal(number, signal.SIG_IGN)
    kernel.die_with_parent(signal.SIGKILL)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.connect(sys.argv[1])
    data, (stdout, stderr, *cgroups) = receive_plan(control)
    plan = decode(data)
    line = take_line(plan, cgroups)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    told, tell = os.pipe()
    try:
        _leave_machine(plan, control, line)
        init = os.fork()
    except OSError as error:
        _fail(control, error)
    if init == 0:
        os.close(told)
        _be_init(plan, control, cgroups, line, tell)
    control.close()
    if line is not None:
        line.close()
    # Whatever is left open here keeps the agent's output from ending with it.
    for descriptor in (*cgroups, tell, 1, 2):
        os.close(descriptor)
    status = os.read(told, 16)
    # Its end is over when nothing of the sandbox is left.
    os.waitpid(init, 0)
    _end_alike(status)


def _end_alike(status: bytes) -> NoReturn:
    """End as the agent did: by its code, or by its signal."""
    code = int(status) if status else -signal.SIGKILL
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code in _FOR_THE_AGENT:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else _NOT_RUN)


def _leave_machine(plan: Plan, control: socket.socket, line: socket.socket | None) -> None:
    if plan.uid is None:
        map_own_user()
    kernel.unshare(_OWN_NAMESPACES | new_network(plan))
    set_up_network(plan, control, line)


def _be_init(
    plan: Plan,
    control: socket.socket,
    cgroups: list[int],
    line: socket.socket | None,
    tell: int,
) -> NoReturn:
    try:
        kernel.die_with_parent(signal.SIGKILL)
        socket.sethostname("session")
        enter_view(plan)
        # Its end says that we have ended; nobody but us has it.
        wait_carried(plan, line)
        agent = os.fork()
        if agent == 0:
            os.close(tell)
            _be_agent(plan, control, cgroups)
        for descriptor in cgroups:
            os.close(descriptor)
        to_nowhere(os.O_RDWR, 0, 1, 2)
        kernel.hide_from_ptrace()
        give_up_powers(None, bytes.fromhex(plan.filter))
        code = serve_as_init(control, agent)
        os.write(tell, str(code).encode())
    except OSError as error:
        _fail(control, error)
    os._exit(0)


def _be_agent(plan: Plan, control: socket.socket, cgroups: list[int]) -> NoReturn:
    try:
        for descriptor in cgroups:
            os.write(descriptor, b"0")
            os.close(descriptor)
        # What it was born in is what it may see of them.
        kernel.unshare(kernel.CLONE_NEWCGROUP)
        to_nowhere(os.O_RDONLY, 0)
        for number in (*_FOR_THE_AGENT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o077)
        if plan.interface is not None and plan.uid is None:
            # The user namespace that the network belongs to has our user as its owner, who may
            # do all in it from right above it. So we go elsewhere.
            map_own_user()
        give_up_powers(plan.uid, bytes.fromhex(plan.filter))
        os.chdir(plan.working_dir)
        send(control, {"started": True})
        os.execve(  # noqa: S606 - no shell, and running a program is the job
            plan.command[0], plan.command, plan.environment
        )
    except OSError as error:
        _fail(control, error)


def _fail(control: socket.socket, error: OSError) -> NoReturn:
    send(control, {"failed": error.strerror or str(error), "number": error.errno or 0})
    os._exit(_NOT_RUN)
