"""Who is compared: each host in a virtual environment that has it and what it needs, no more."""

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support.processes import Child, ChildError, Children

ROOT = Path(__file__).parents[2]
AGENTS = Path(__file__).parent / "agents"
WS_PATH = "/invocations_ws"
_START_S = 60.0
_POLL_S = 0.002


@dataclass(frozen=True, slots=True)
class Contestant:
    """One host, or what stands for none."""

    name: str
    label: str
    agent: str
    requirements: str
    is_ours: bool = False
    """Whether trunkline itself is to be installed, too."""
    path: str = WS_PATH


TRUNKLINE = Contestant("trunkline", "trunkline", "trunkline_host", "agent.txt", is_ours=True)
MICROSOFT = Contestant("microsoft", "Microsoft's host", "microsoft_host", "bench-host.txt")
PICOWS = Contestant("picows", "bare picows", "bare_picows", "agent.txt", is_ours=True, path="/")
ALL = (TRUNKLINE, MICROSOFT, PICOWS)


def environment_of(contestant: Contestant) -> Path:
    """Return a contestant's virtual environment, making it if need be.

    It lies under ``.cache`` by what its requirements say; trunkline's is made anew, since the
    code may have changed.
    """
    requirements = ROOT / "requirements" / contestant.requirements
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    kind = "trunkline" if contestant.is_ours else contestant.name
    folder = ROOT / ".cache" / f"bench-{kind}-{digest}"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".installed").exists():
            _uv("venv", "--allow-existing", "--python", sys.executable, str(folder))
            _uv(
                "pip", "sync", "--compile-bytecode", "--require-hashes", "--python",
                str(folder / "bin" / "python"), str(requirements),
            )  # fmt: skip
            (folder / ".installed").touch()
        if contestant.is_ours:
            _install_ourselves(folder)
    return folder


def _install_ourselves(folder: Path) -> None:
    # What is installed is what a wheel of this working tree would install.
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as wheels:
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels],
            cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        (wheel,) = Path(wheels).glob("*.whl")
        _uv(
            "pip", "install", "--no-deps", "--reinstall", "--compile-bytecode", "--python",
            str(folder / "bin" / "python"), str(wheel),
        )  # fmt: skip


def _uv(*arguments: str) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    done = subprocess.run([uv, *arguments, "--quiet"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChildError(f"uv {' '.join(arguments)}\n{done.stderr}")


@dataclass(frozen=True, slots=True)
class Running:
    """A contestant that serves."""

    child: Child
    port: int
    ready_s: float
    """From its spawn until it answered."""


def start(children: Children, contestant: Contestant) -> Running:
    """Start a contestant on a free port and wait until it serves."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    # Nobody else gets the port on a loopback in between but by chance.
    python = environment_of_cached(contestant) / "bin" / "python"
    variables = {"PORT": str(port), "PATH": os.defpath, "HOME": tempfile.gettempdir()}
    begun = time.perf_counter()
    child = children.start(
        contestant.name,
        "/usr/bin/env", "-i", *(f"{name}={value}" for name, value in variables.items()),
        str(python), str(AGENTS / f"{contestant.agent}.py"),
    )  # fmt: skip
    while not _answers(contestant, port):
        if child.has_ended:
            raise child.failure("ended before it served")
        if time.perf_counter() - begun > _START_S:
            raise child.failure("didn't serve in time")
        time.sleep(_POLL_S)
    return Running(child, port, time.perf_counter() - begun)


_made: dict[str, Path] = {}


def environment_of_cached(contestant: Contestant) -> Path:
    """Return the environment, made once in this process."""
    if contestant.name not in _made:
        _made[contestant.name] = environment_of(contestant)
    return _made[contestant.name]


def _answers(contestant: Contestant, port: int) -> bool:
    try:
        if contestant is PICOWS:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        url = f"http://127.0.0.1:{port}/readiness"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@contextmanager
def running(contestant: Contestant) -> Iterator[Running]:
    """Start a contestant alone, and end it."""
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as folder:
        with Children(Path(folder)) as children:
            yield start(children, contestant)


def distributions(contestant: Contestant) -> tuple[int, int]:
    """Return how many distributions its environment has, and their bytes on disk."""
    (packages,) = (environment_of_cached(contestant) / "lib").glob("python*/site-packages")
    size = sum(
        path.lstat().st_size
        for path in packages.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    )
    return len(list(packages.glob("*.dist-info"))), size
