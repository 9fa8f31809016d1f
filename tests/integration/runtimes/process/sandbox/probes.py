"""Tries to get out. Runs as an agent: writes into its home what it managed, then serves.

A probe that is prevented raises an `OSError`, or returns nothing; what it returns otherwise is
how far it got. Its arguments are a JSON object with what the driver knows and an agent shouldn't.
"""

import ctypes
import fcntl
import json
import os
import pty
import resource
import signal
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import kernel_probes  # noqa: F401 - it adds its probes to the list
from probing import FACTS, HARMLESS, HOME, PROBES, call, harmless, in_child, probe

# Other sessions


@harmless
def read_another_home():
    return (Path(FACTS["victim_home"]) / "secret").read_text()


@harmless
def list_another_home():
    return os.listdir(FACTS["victim_home"])


@harmless
def see_other_processes():
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"/victim.py" in (folder / "cmdline").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found or None


@harmless
def read_another_environment():
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"victims-own-secret" in (folder / "environ").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found or None


@harmless
def signal_another_process():
    os.kill(FACTS["victim_pid"], 0)
    return "it can be signalled"


@harmless
def read_another_memory():
    with open(f"/proc/{FACTS['victim_pid']}/mem", "rb"):
        return "it can be opened"


@harmless
def trace_the_first_process():
    def work():
        # PTRACE_SEIZE: it goes on running, and is let go of when we end.
        call("ptrace", 0x4206, FACTS["victim_pid"] if FACTS["is_free"] else 1, 0, 0)
        return "traced"

    return in_child(work)


@harmless
def read_memory_by_system_call():
    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    data = ctypes.create_string_buffer(8)
    local = Vector(ctypes.addressof(data), 8)
    target = FACTS["victim_pid"] if FACTS["is_free"] else os.getpid()
    remote = Vector(ctypes.addressof(data), 8)
    try:
        call("process_vm_readv", target, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    except OSError as error:
        if error.errno == 14:  # EFAULT: allowed, only nothing is there
            return "allowed"
        raise
    return "read"


@harmless
def connect_to_another_socket():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(FACTS["victim_socket"])
        return "connected"


@harmless
def connect_to_another_port():
    with socket.create_connection(("127.0.0.1", FACTS["victim_port"]), 5):
        return "connected"


@harmless
def connect_to_an_abstract_socket():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\0" + FACTS["abstract"])
        return "connected"


# The platform and the network


# The platform's own tests have its door in there, and look at what is behind it: see
# tests/e2e/test_agent_door.py. Here nobody has made one.
@harmless
def reach_the_platforms_port():
    with socket.create_connection(("127.0.0.1", FACTS["platform_port"]), 5):
        return "connected"


@harmless
def reach_the_machines_addresses():
    for address in FACTS["addresses"]:
        try:
            with socket.create_connection((address, FACTS["platform_port"]), 5):
                return address
        except OSError:
            continue
    return None


@harmless
def read_the_platforms_key():
    return Path(FACTS["key"]).read_text()


@harmless
def list_the_state_directory():
    # The way to the version's own folder is there, and nothing beside it.
    return [name for name in os.listdir(FACTS["state_dir"]) if name != "versions"] or None


@probe
def reach_the_internet_directly():
    with socket.create_connection(("1.1.1.1", 53), 2):
        return "connected"


@probe
def send_a_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"?", ("1.1.1.1", 53))
        return "sent"


def through_the_proxy(target: str) -> object:
    with socket.create_connection(("127.0.0.1", 3128), 5) as sock:
        sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        answer = sock.recv(4096).decode()
        return answer if answer.startswith("HTTP/1.1 200") else None


for number, host in enumerate(
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0.0.0.0", "[::1]",
     "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::]"]
):  # fmt: skip
    PROBES[f"reach_the_platform_through_the_proxy_{number}"] = lambda host=host: through_the_proxy(
        f"{host}:{FACTS['platform_port']}"
    )
for number, host in enumerate(
    ["10.0.0.1:80", "192.168.0.1:80", "172.16.0.1:80", "169.254.169.254:80", "100.64.0.1:80",
     "[fd00::1]:80", "[fe80::1]:80", "224.0.0.1:80", "255.255.255.255:80"]
):  # fmt: skip
    PROBES[f"reach_private_addresses_through_the_proxy_{number}"] = lambda host=host: (
        through_the_proxy(host)
    )


@probe
def ask_the_proxy_for_a_plain_page_of_the_platform():
    with socket.create_connection(("127.0.0.1", 3128), 5) as sock:
        sock.sendall(
            f"GET http://127.0.0.1:{FACTS['platform_port']}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )
        answer = sock.recv(4096).decode()
        return answer if answer.startswith("HTTP/1.1 200") else None


def ask_the_proxy(url: str) -> str:
    with socket.create_connection(("127.0.0.1", 3128), 5) as sock:
        sock.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return sock.recv(4096).decode()


@probe
def reach_the_platform_by_a_name():
    return through_the_proxy(f"platform.test:{FACTS['platform_port']}")


@probe
def reach_the_platform_by_a_name_that_changes():
    first = through_the_proxy(f"rebound.test:{FACTS['allowed_port']}")
    if first is None:
        return "the proxy reaches nothing, so this proves nothing"
    return through_the_proxy(f"rebound.test:{FACTS['platform_port']}")


@probe
def reach_the_platform_by_a_redirect():
    answer = ask_the_proxy(f"http://allowed.test:{FACTS['allowed_port']}/")
    if not answer.startswith("HTTP/1.1 302"):
        return "the proxy reaches nothing, so this proves nothing"
    location = answer.partition("Location: ")[2].partition("\r\n")[0]
    answer = ask_the_proxy(location)
    return answer if answer.startswith("HTTP/1.1 200") else None


@probe
def look_a_name_up_directly():
    return socket.getaddrinfo("allowed.test", 80) or None


# Files


@harmless
def read_the_password_file():
    return Path("/etc/shadow").read_text()[:5]


@harmless
def see_kernel_files():
    return os.listdir("/sys") or None


@probe
def write_kernel_settings():
    for path in ("/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory"):
        try:
            Path(path).write_text(Path(path).read_text())
        except OSError:
            continue
        return path
    return None


@probe
def press_a_magic_key():
    Path("/proc/sysrq-trigger").write_text("h")
    return "pressed"


@harmless
def read_kernel_memory():
    with open("/proc/kcore", "rb") as file:
        return file.read(4).hex() or None


@harmless
def get_out_through_the_root_of_a_process():
    for path in ("/proc/self/root", "/proc/1/root", "/proc/self/cwd/../../../../../../.."):
        try:
            if os.path.exists(f"{path}{FACTS['key']}"):
                return path
        except OSError:
            continue
    return None


@harmless
def look_into_the_first_process():
    found = []
    for name in ("environ", "mem", "maps", "fd/3"):
        try:
            with open(f"/proc/1/{name}", "rb") as file:
                found.append(name + file.read(1).hex())
        except OSError:
            continue
    return found or None


@probe
def end_the_first_process():
    os.kill(1, signal.SIGKILL)
    os.kill(1, 0)
    # Still there: the kernel doesn't let it be killed from inside.
    return


@probe
def use_inherited_descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                found[name] = os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                continue
    return found or None


@harmless
def write_where_others_read():
    found = []
    for folder in ("/", "/usr", "/usr/bin", "/etc", "/run", "/dev", os.getcwd(),
                   os.path.dirname(os.path.dirname(sys.executable))):  # fmt: skip
        path = f"{folder}/trunkline-was-here"
        try:
            with open(path, "x"):
                found.append(folder)
            os.unlink(path)
        except OSError:
            continue
    return found or None


@harmless
def change_the_program():
    with open(__file__, "r+b"):
        return "it can be written"


@harmless
def link_to_another_file():
    os.link(FACTS["key"], HOME / "link")
    os.unlink(HOME / "link")
    return "linked"


@harmless
def open_the_machines_devices():
    names = ("mem", "kmsg", "kvm", "fuse", "vda", "sda", "net/tun", "loop0", "loop-control")
    found = []
    for name in names:
        try:
            os.close(os.open(f"/dev/{name}", os.O_RDONLY | os.O_NONBLOCK))
        except OSError:
            continue
        found.append(name)
    return found or None


@harmless
def type_into_a_terminal():
    if FACTS["is_free"]:
        return "not tried"
    _, slave = pty.openpty()
    fcntl.ioctl(slave, 0x5412, b"x")
    return "typed"


@probe
def dump_core():
    return resource.getrlimit(resource.RLIMIT_CORE)[1] or None


def main() -> None:
    results = {}
    for name, attempt in PROBES.items():
        if FACTS["is_free"] and name not in HARMLESS:
            continue
        try:
            answer = attempt()
        except (OSError, AssertionError) as error:
            results[name] = [None, str(error)]
        else:
            results[name] = [None if answer is None else str(answer), ""]
    (HOME / "results.json").write_text(json.dumps(results))
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.environ["TRUNKLINE_AGENT_SOCKET"])
    server.listen()
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


main()
