"""Makes a session's network, and becomes the program that gives it an interface.

That program is slirp4netns, a network stack of its own in an ordinary process: what the agent
sends out of its interface leaves this machine as that process's connections. It is in no sandbox of
ours, because it needs this machine's network, so it gets a user of its own and nothing else: the
session's network belongs to a user namespace in which that user is root, and so slirp4netns is
started with no privilege on this machine at all. It then moves into an almost empty view of files
and installs a filter of system calls by itself.

The platform says on the socket that is our standard output what is to be made. With that comes the
line to the session's first process. It says in which user namespace the session is, and gets its
``network``, our process as a ``carrier``, and a ``1`` once there is an interface, which it sets up;
or ``failed`` with the reason. When it ends, so does slirp4netns.
"""

import json
import os
import resource
import signal
import socket
import stat
from collections.abc import Mapping
from typing import Any, NoReturn

from trunkline.runtimes.process.sandbox.inside import kernel
from trunkline.runtimes.process.sandbox.inside.confine import become_root_of_own_user_namespace
from trunkline.runtimes.process.sandbox.inside.descriptors import close_all_but, to_nowhere
from trunkline.runtimes.process.sandbox.inside.interface import DEVICE, NAME, do_without_ipv6
from trunkline.runtimes.process.sandbox.inside.messages import MAX_BYTES, receive, send

_NOT_RUN = 127
_MAX_DESCRIPTORS = 16
_DEVICE_FOLDER = os.path.dirname(DEVICE)
_DEVICE_NUMBERS = (10, 200)
_ALL_MAY = 0o666
#: Each of the agent's connections is a descriptor, and a port of the machine's.
_MAX_FILES = 1024
_MAX_LOG_BYTES = 64 * 1024


def main() -> NoReturn:
    """Do it once, for one session."""
    kernel.die_with_parent(signal.SIGKILL)
    parent = os.getppid()
    with socket.socket(fileno=os.dup(1)) as platform:
        data, files, _, _ = socket.recv_fds(platform, MAX_BYTES, _MAX_DESCRIPTORS)
    if not data:
        # Nobody needed us.
        os._exit(0)
    order = json.loads(data)
    line_file, log, *cgroups = files
    line = socket.socket(fileno=line_file)
    try:
        message, user_space = receive(line)
        if message is None or user_space is None:
            os._exit(0)
        for descriptor in cgroups:
            os.write(descriptor, b"0")
            os.close(descriptor)
        for standard in (1, 2):
            os.dup2(log, standard)
        os.close(log)
        to_nowhere(os.O_RDONLY, 0)
        network = _make_network(order, user_space)
        send(line, {"network": True}, network)
        carrier = os.pidfd_open(os.getpid())
        send(line, {"carrier": True}, carrier)
        _confine(parent)
        _carry(order, network, line)
    except OSError as error:
        send(line, {"failed": f"its interface: {error.strerror or error}"})
    os._exit(_NOT_RUN)


def _make_network(order: Mapping[str, Any], user_space: int) -> int:
    """Return a network of its own; from here on we are nobody on this machine."""
    uid = order["uid"]
    if uid is not None:
        _open_device()
    if os.fstat(user_space).st_ino != os.stat("/proc/self/ns/user").st_ino:
        kernel.enter(user_space, kernel.CLONE_NEWUSER)
    os.close(user_space)
    become_root_of_own_user_namespace(uid)
    # It takes another process: we couldn't come back to this machine's network.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    maker = os.fork()
    if maker == 0:
        try:
            kernel.unshare(kernel.CLONE_NEWNET)
            do_without_ipv6()
            send(theirs, {}, os.open("/proc/self/ns/net", os.O_RDONLY))
        except OSError as error:
            send(theirs, {"why": error.strerror or str(error)})
        os._exit(0)
    theirs.close()
    os.waitpid(maker, 0)
    message, network = receive(ours)
    ours.close()
    if message is None or network is None:
        raise OSError(0, "its maker ended" if message is None else message["why"])
    return network


def _open_device() -> None:
    """Let every user have the device by which interfaces are made, in our own view of files.

    Most machines do so for all; on some it is root's alone.
    """
    if stat.S_IMODE(os.stat(DEVICE).st_mode) & _ALL_MAY == _ALL_MAY:
        return
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", _DEVICE_FOLDER, "tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, "size=4k")
    os.mknod(DEVICE, stat.S_IFCHR | _ALL_MAY, os.makedev(*_DEVICE_NUMBERS))
    os.chmod(DEVICE, _ALL_MAY)


def _confine(parent: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_LOG_BYTES, _MAX_LOG_BYTES))
    most = min(_MAX_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # What it has to say beyond that is lost, and no more.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # Becoming another user has undone it.
    kernel.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(_NOT_RUN)


def _carry(order: Mapping[str, Any], network: int, line: socket.socket) -> NoReturn:
    ready, over = line.fileno(), os.dup(line.fileno())
    close_all_but(network, ready, over)
    for descriptor in (network, ready, over):
        os.set_inheritable(descriptor, True)
    command = (
        order["program"],
        f"--ready-fd={ready}",
        f"--exit-fd={over}",
        f"--mtu={order['mtu']}",
        f"--cidr={order['network']}",
        "--disable-host-loopback",
        *(() if order["answers_names"] else ("--disable-dns",)),
        "--enable-sandbox",
        "--enable-seccomp",
        "--netns-type=path",
        f"/proc/self/fd/{network}",
        NAME,
    )
    # By its environment it is found if the platform is killed.
    os.execve(command[0], command, os.environ)  # noqa: S606, TID251 - no shell
