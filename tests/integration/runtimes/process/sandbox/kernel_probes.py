"""Tries to have the kernel do what an agent mustn't: those of `probes` that are about that."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from probing import FACTS, HOME, call, harmless, in_child, probe, syscall, x86


@probe
def mount_something():
    call("mount", b"tmpfs", str(HOME).encode(), b"tmpfs", 0, 0)
    return "mounted"


@probe
def unmount_something():
    call("umount2", b"/proc/sys", 2)
    return "unmounted"


@probe
def make_the_root_writable():
    call("mount", b"none", b"/", 0, 32 | 4096, 0)
    return "remounted"


@probe
def use_the_new_mount_calls():
    return syscall(428, -100, b"/", 1)


@harmless
def make_a_user_namespace():
    def work():
        call("unshare", 0x10000000)
        return "made"

    return in_child(work)


@harmless
def make_a_network_namespace():
    def work():
        call("unshare", 0x40000000)
        return "made"

    return in_child(work)


@harmless
def clone_into_a_user_namespace():
    child = syscall(x86(56), 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "cloned"


@harmless
def clone_into_a_user_namespace_the_new_way():
    arguments = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, signal.SIGCHLD)
    child = syscall(435, arguments, ctypes.sizeof(arguments))
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "cloned"


@probe
def join_the_first_process_namespaces():
    descriptor = os.open("/proc/1/ns/mnt", os.O_RDONLY)
    call("setns", descriptor, 0)
    return "joined"


@probe
def load_a_program_into_the_kernel():
    attributes = ctypes.create_string_buffer(128)
    return f"descriptor {syscall(x86(321), 0, attributes, 128)}"


@harmless
def open_a_raw_socket():
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP):
        return "opened"


@harmless
def open_a_packet_socket():
    with socket.socket(17, socket.SOCK_RAW, 3):
        return "opened"


@harmless
def open_a_socket_to_the_hypervisor():
    with socket.socket(40, socket.SOCK_STREAM):
        return "opened"


@harmless
def open_a_netfilter_socket():
    with socket.socket(16, socket.SOCK_RAW, 12):
        return "opened"


@harmless
def use_io_uring():
    parameters = ctypes.create_string_buffer(256)
    os.close(syscall(425, 2, parameters))
    return "made"


@harmless
def use_a_keyring():
    # KEYCTL_GET_KEYRING_ID of our session's.
    return syscall(x86(250), 0, -3, 1)


@harmless
def open_a_performance_counter():
    attributes = ctypes.create_string_buffer(128)
    ctypes.memmove(attributes, (1).to_bytes(4, "little") + (128).to_bytes(4, "little"), 8)
    os.close(syscall(x86(298), attributes, 0, -1, -1, 0))
    return "opened"


@harmless
def use_userfaultfd():
    os.close(syscall(x86(323), 0))
    return "made"


@probe
def open_a_file_by_handle():
    handle = ctypes.create_string_buffer(128)
    return syscall(x86(304), -100, handle, 0)


@harmless
def change_the_root():
    def work():
        os.chroot("/")
        return "changed"

    return in_child(work)


@probe
def set_the_clock():
    call("clock_settime", 0, ctypes.create_string_buffer(16))
    return "set"


@harmless
def set_the_host_name():
    socket.sethostname(socket.gethostname())
    return "set"


@harmless
def run_before_everybody():
    def work():
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        return "done"

    return in_child(work)


@harmless
def be_spared_when_memory_is_short():
    before = Path("/proc/self/oom_score_adj").read_text()
    Path("/proc/self/oom_score_adj").write_text("-1000")
    Path("/proc/self/oom_score_adj").write_text(before)
    return "spared"


@harmless
def make_a_device():
    os.mknod(HOME / "device", 0o600 | 0o020000, os.makedev(1, 1))
    return "made"


@harmless
def become_root():
    def work():
        os.setresuid(0, 0, 0)
        return os.getresuid()

    if FACTS["is_free"]:
        return in_child(work)
    return None if os.getuid() == os.geteuid() != 0 and _fails(work) else "we are root"


def _fails(work):
    try:
        in_child(work)
    except OSError:
        return True
    return False


@probe
def run_a_program_as_its_owner():
    """A set-user-id program runs as us."""
    su = next((p for p in ("/usr/bin/su", "/bin/su") if os.path.exists(p)), None)
    if su is None or not os.stat(su).st_mode & 0o4000:
        raise OSError("there is none")
    code = "import os; print(os.geteuid())"
    own = HOME / "owner"
    own.write_bytes(Path("/bin/true").read_bytes())
    own.chmod(0o4755)
    done = subprocess.run([su, "-s", sys.executable, "-c", code], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, check=False)  # fmt: skip
    status = Path("/proc/self/status").read_text()
    assert "NoNewPrivs:\t1" in status
    return done.stdout if done.stdout.strip() == "0" else None


@harmless
def have_a_capability():
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    return {n: status[n] for n in names if int(status[n], 16)} or None


@harmless
def be_without_a_filter():
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    return None if status["Seccomp"] == "2" else status["Seccomp"]


@harmless
def belong_to_groups():
    groups = [group for group in os.getgroups() if group != os.getgid()]
    # One user that isn't mapped may show as nobody's.
    return [group for group in groups if group != 65534] or None
