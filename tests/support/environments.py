"""Programs that tests run beside trunkline, each in an environment of its own."""

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def bin_with(name: str) -> Path:
    """Return the ``bin`` folder of an environment, making it if need be.

    The environment is kept under ``.cache`` by what its requirements file says.

    Args:
        name: The requirements file's name, without its ending.
    """
    requirements = ROOT / "requirements" / f"{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    folder = ROOT / ".cache" / f"{name}-{sys.version_info[0]}.{sys.version_info[1]}-{digest}"
    stamp = folder / ".installed"
    folder.parent.mkdir(exist_ok=True)
    # Several test processes may ask at once: one installs, the others wait for it.
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists():
            uv = str(Path(sys.executable).with_name("uv"))
            _run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder))
            _run(
                uv, "pip", "sync", "--quiet", "--require-hashes", "--python",
                str(folder / "bin" / "python"), str(requirements),
            )  # fmt: skip
            stamp.touch()
    return folder / "bin"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        f"what these tests need couldn't be installed: {' '.join(command)}\n{done.stderr}"
    )
