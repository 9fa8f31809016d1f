"""The first process of a session that is forked from a zygote.

It is forked from the nursery, never from the zygote, and runs code of ours alone. It makes the
sandbox around nothing, gives the zygote what it takes to have a child in there, looks at what came
in, hands what it takes to make that the session's to the nursery, and stays as ``rest``: without it
the sandbox would end. It never learns whose session it is.

The namespaces belong to the nursery's user namespace, in which the zygote may enter them and
nothing else. The child ends up in a user namespace of its own below, which owns none of them: what
it may do there, on its way to becoming the session's user, reaches nothing.
"""

import gc
import json
import os
import select
import signal
import socket
import struct
from dataclasses import dataclass
from typing import NoReturn

from trunkline.runtimes.process.sandbox.inside import kernel
from trunkline.runtimes.process.sandbox.inside.confine import give_up_powers, write_maps
from trunkline.runtimes.process.sandbox.inside.descriptors import close_all_but, to_nowhere
from trunkline.runtimes.process.sandbox.inside.messages import send
from trunkline.runtimes.process.sandbox.inside.mounts import add_own, new_proc
from trunkline.runtimes.process.sandbox.inside.network import (
    new_network,
    set_up_network,
    take_line,
    wait_carried,
)
from trunkline.runtimes.process.sandbox.inside.plan import Plan
from trunkline.runtimes.process.sandbox.inside.rest import rest

#: The number of the child in its own namespace of processes: the third there ever was.
AGENT_PID = 3
#: What a child is told that is to wait for a session.
_WAIT = b"wait"
_NOT_RUN = 127
_BIRTH_TIMEOUT_MS = 10_000
_FILTERS = 2
_CREDENTIALS = struct.Struct("3i")
#: What a child has open when it is looked at: the standard ones, and the line to here.
_MAX_DESCRIPTORS = 4
_NAMESPACES = ("pid", "net", "ipc", "uts", "cgroup", "mnt", "user")


class _RefusedError(Exception):
    """What came out of the zygote isn't what was asked for."""


@dataclass(frozen=True)
class Around:
    """What a nest has of its nursery's."""

    control: socket.socket
    """To the platform."""
    nursery: socket.socket
    """To the nursery, which gets the agent's pidfd, its network, its view and the line to it."""
    zygote: socket.socket
    """To the zygote."""
    common: int
    """The mount namespace to copy."""
    resting: int | None
    """The program to become when all is done."""


def be_nest(plan: Plan, around: Around, files: list[int]) -> NoReturn:
    """Make the sandbox, have the agent born in it, and stay.

    Args:
        plan: What to make.
        around: What we have of the nursery's.
        files: The cgroups to join, and the line to who makes its network, if somebody else does.
    """
    control, resting = around.control, around.resting
    # This won't be here for long.
    gc.disable()
    try:
        kernel.die_with_parent(signal.SIGKILL)
        ours = [] if resting is None else [resting]
        lines = [each.fileno() for each in (control, around.nursery, around.zygote)]
        close_all_but(*lines, around.common, *ours, *files)
        maker = take_line(plan, files)
        kernel.unshare(kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | new_network(plan))
        set_up_network(plan, control, maker)
        socket.sethostname("session")
        _enter_copy(around.common, plan)
        line = _have_born(plan, around.zygote, files)
        wait_carried(plan, maker)
        known = [os.pidfd_open(AGENT_PID), line.fileno()]
        known += [os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in ("net", "mnt")]
        kernel.hide_from_ptrace()
        give_up_powers(None, bytes.fromhex(plan.filter))
        # From here on the agent may be told whose it is: nothing in there can do more than it.
        send(around.nursery, {"born": True}, *known)
        if maker is not None:
            # Its end says that we have ended.
            maker.set_inheritable(True)
            ours.append(maker.fileno())
        close_all_but(*ours)
        rest(resting)
    except (OSError, _RefusedError) as error:
        text = (error.strerror if isinstance(error, OSError) else "") or str(error)
        send(control, {"failed": text, "number": getattr(error, "errno", 0) or 0})
    os._exit(_NOT_RUN)


def _enter_copy(common: int, plan: Plan) -> None:
    """Move into a view of our own: a copy of the common one, and what is this session's alone."""
    processes = new_proc()
    try:
        kernel.enter(common, kernel.CLONE_NEWNS)
        os.close(common)
        kernel.unshare(kernel.CLONE_NEWNS)
        add_own(plan, processes)
    finally:
        os.close(processes)


def _have_born(plan: Plan, zygote: socket.socket, cgroups: list[int]) -> socket.socket:
    """Return the line to a child of the zygote's that waits to be told who it is."""
    member = _Member(plan.uid, cgroups)
    spaces = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in _NAMESPACES[:-3]]
    spaces += [member.space("cgroup"), os.open("/proc/self/ns/mnt", os.O_RDONLY)]
    spaces.append(member.space("user"))
    expected = _Expected(plan.uid, member)
    member.end()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    request = json.dumps({"uid": plan.uid, "filter": plan.filter}).encode()
    socket.send_fds(zygote, [request], [theirs.fileno(), *spaces, *cgroups])
    # Its end ends with the agent: nothing of it stays open here.
    theirs.close()
    zygote.close()
    for descriptor in (*spaces, *cgroups):
        os.close(descriptor)
    to_nowhere(os.O_RDWR, 0, 1, 2)
    _await_word(ours)
    expected.check()
    if plan.is_ahead:
        ours.send(_WAIT)
    return ours


def _await_word(line: socket.socket) -> None:
    poll = select.poll()
    poll.register(line, select.POLLIN)
    if not poll.poll(_BIRTH_TIMEOUT_MS):
        raise _RefusedError("the zygote had no child in time")
    data, ancillary, _, _ = line.recvmsg(256, socket.CMSG_SPACE(_CREDENTIALS.size))
    if not data:
        raise _RefusedError("the zygote's child ended before it was the session's")
    if data != b"born":
        raise _RefusedError(f"the zygote's child couldn't enter: {data.decode(errors='replace')}")
    pids = [
        _CREDENTIALS.unpack(value)[0]
        for level, kind, value in ancillary
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS
    ]
    if pids != [AGENT_PID]:
        raise _RefusedError(f"the zygote's child isn't where it belongs: {pids}")


class _Member:
    """A process that is in the session's cgroups and user namespace until others are."""

    def __init__(self, uid: int | None, cgroups: list[int]) -> None:
        told, tell = os.pipe()
        waiting, self._let_end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._let_end)
                for descriptor in cgroups:
                    os.write(descriptor, b"0")
                # What it was born in is what it may see of them.
                kernel.unshare(kernel.CLONE_NEWCGROUP)
                kernel.unshare(kernel.CLONE_NEWUSER)
                os.write(tell, b"0")
                os.read(waiting, 1)
            except OSError as error:
                os.write(tell, str(error.errno or 1).encode())
            os._exit(0)
        os.close(tell)
        os.close(waiting)
        answer = os.read(told, 16)
        os.close(told)
        if (number := int(answer or b"1")) != 0:
            raise OSError(number, f"a user namespace: {os.strerror(number)}")
        number = os.geteuid() if uid is None else uid
        write_maps(self.pid, f"{number} {number} 1")

    def space(self, name: str) -> int:
        """Return a namespace of its."""
        return os.open(f"/proc/{self.pid}/ns/{name}", os.O_RDONLY)

    def end(self) -> None:
        """Have it end, and wait for that."""
        os.close(self._let_end)
        os.waitpid(self.pid, 0)


class _Expected:
    """What the agent's process must be like, whatever the zygote has become by its imports."""

    def __init__(self, uid: int | None, member: _Member) -> None:
        self._uid = os.geteuid() if uid is None else uid
        self._spaces = {
            name: os.readlink(
                f"/proc/{member.pid if name in ('user', 'cgroup') else 'self'}/ns/{name}"
            )
            for name in _NAMESPACES
        }
        self._cgroups = _read(f"/proc/{member.pid}/cgroup")

    def check(self) -> None:
        """Look at it.

        Raises:
            _RefusedError: If it isn't confined as any other agent is, or isn't alone.
        """
        place = f"/proc/{AGENT_PID}"
        facts = dict(
            line.split(":\t", 1) for line in _read(f"{place}/status").splitlines() if ":\t" in line
        )
        user = "\t".join([str(self._uid)] * 4)
        wanted = {
            "Uid": user,
            "Gid": user if self._uid != os.geteuid() else "\t".join([str(os.getegid())] * 4),
            "NoNewPrivs": "1",
            "Seccomp": "2",
            "Threads": "1",
        } | dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16)
        wrong = [name for name, value in wanted.items() if facts.get(name, "").strip() != value]
        if int(facts.get("Seccomp_filters", _FILTERS)) < _FILTERS:
            wrong.append("Seccomp_filters")
        wrong += [
            name for name, link in self._spaces.items() if os.readlink(f"{place}/ns/{name}") != link
        ]
        if _read(f"{place}/cgroup") != self._cgroups:
            wrong.append("cgroup")
        if len(os.listdir(f"{place}/fd")) > _MAX_DESCRIPTORS:
            wrong.append("fd")
        if {name for name in os.listdir("/proc") if name.isdecimal()} != {"1", str(AGENT_PID)}:
            wrong.append("other processes")
        if wrong:
            raise _RefusedError(f"the zygote's child isn't confined: {', '.join(wrong)}")


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
