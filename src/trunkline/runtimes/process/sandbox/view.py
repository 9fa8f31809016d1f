"""What an agent sees of the machine's files: the system, its version, and nothing of others."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address

#: Where the session's home is, for the agent.
HOME = "/home/session"
#: Where its sockets are, for the agent.
SOCKETS = "/run/trunkline"

_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SETTINGS = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "fonts",
    "gai.conf", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime",
    "machine-info", "mime.types", "nsswitch.conf", "os-release", "pki", "protocols", "services",
    "ssl", "timezone",
)  # fmt: skip
#: Only for those in the machine's own network.
_NETWORK_SETTINGS = ("resolv.conf",)
_WORLD_READS = stat.S_IROTH | stat.S_IXOTH


@dataclass(slots=True)
class View:
    """What is bound where; see ``Plan``."""

    binds: list[tuple[str, str, str]] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    own_files: list[tuple[str, str]] = field(default_factory=list)


def view_of(
    command: str,
    working_dir: str,
    *,
    uid: int,
    own_network: bool,
) -> View:
    """Return what an agent is to see, but for what is its session's alone.

    Args:
        command: The program it is started with, by its absolute path.
        working_dir: Its version's folder.
        uid: Whom it runs as.
        own_network: Whether its network is its own, where the machine's resolver doesn't answer.
    """
    view = View()
    _see_system(view, own_network=own_network)
    _see_accounts(view, uid)
    for path in _program_folders(command):
        _see(view, path)
    _see(view, working_dir)
    return view


def _see_system(view: View, *, own_network: bool) -> None:
    _see(view, "/usr")
    for path in _SYSTEM:
        if os.path.islink(path):
            view.links.append((os.readlink(path), path))
        elif os.path.isdir(path):
            _see(view, path)
    for name in _SETTINGS if own_network else _SETTINGS + _NETWORK_SETTINGS:
        if os.path.exists(path := f"/etc/{name}"):
            _see(view, path)
    view.links += [("/tmp", "/var/tmp"), ("/run", "/var/run")]  # noqa: S108 - the sandbox's own


def _see_accounts(view: View, uid: int) -> None:
    view.own_files += [
        (
            "/etc/passwd",
            "root:x:0:0:root:/root:/usr/sbin/nologin\n"
            f"session:x:{uid}:{uid}::{HOME}:/bin/sh\n"
            "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        ),
        ("/etc/group", f"root:x:0:\nsession:x:{uid}:\nnogroup:x:65534:\n"),
    ]
    view.files += [
        ("/etc/hosts", "127.0.0.1 localhost session\n::1 localhost\n"),
        ("/etc/hostname", "session\n"),
    ]


def name_servers(addresses: Iterable[IPv4Address]) -> tuple[str, str]:
    """Return the file by which programs know whom to ask for names."""
    lines = "".join(f"nameserver {address}\n" for address in addresses)
    return "/etc/resolv.conf", lines


def _see(view: View, path: str) -> None:
    """Bind a path to the same place, read-only, unless it is seen already."""
    source = os.path.realpath(path)
    for seen_source, place, _ in view.binds:
        if seen_source == place and _is_in(source, seen_source) and source == path:
            return
    view.binds.append((source, path, "ro"))


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _program_folders(command: str) -> Iterator[str]:
    """Return the folders a program needs: its environment's, and its interpreter's."""
    environment = os.path.dirname(os.path.dirname(command))
    settings = os.path.join(environment, "pyvenv.cfg")
    if not os.path.exists(settings):
        yield from _installation(command)
        return
    yield environment
    for interpreter in (_base_of(settings), os.path.join(environment, "bin", "python")):
        yield from _installation(interpreter)


def _base_of(settings: str) -> str:
    with open(settings, encoding="utf-8") as file:
        for line in file:
            name, _, value = line.partition("=")
            if name.strip() == "home":
                return os.path.join(value.strip(), "python3")
    return ""


def _installation(program: str) -> Iterator[str]:
    """Return where a program is installed, by its name and by what its links lead to."""
    for path in {program, os.path.realpath(program)}:
        folder = os.path.dirname(path)
        if os.path.exists(path) and os.path.basename(folder) == "bin" and folder != "/bin":
            yield os.path.dirname(folder)


def make_readable(path: str) -> None:
    """Let every user read a folder that agents are to see.

    It is below a directory that is closed to others, so nobody else gets to see more. The folder
    itself comes last: where it can be read, all in it can.
    """
    if os.stat(path).st_mode & _WORLD_READS == _WORLD_READS:
        return
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            _open_up(os.path.join(folder, name), stat.S_IROTH)
        _open_up(folder, _WORLD_READS)


def _open_up(path: str, bits: int) -> None:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return
    if mode & stat.S_IXUSR:
        bits |= stat.S_IXOTH
    if mode & bits != bits:
        os.chmod(path, stat.S_IMODE(mode) | bits)


def readable_folders(command: str, working_dir: str) -> tuple[str, ...]:
    """Return the folders of a version that were made for it, and that its agents are to read."""
    environment = os.path.dirname(os.path.dirname(command))
    is_made = os.path.exists(os.path.join(environment, "pyvenv.cfg"))
    return (environment, working_dir) if is_made else (working_dir,)
