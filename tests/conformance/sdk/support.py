"""Microsoft's and OpenAI's clients in an environment of their own, as a user installs them."""

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
REQUIREMENTS = ROOT / "requirements" / "sdk.txt"


def sdk_python() -> Path:
    """Return an interpreter that has the clients, installing them if need be.

    The environment is kept under ``.cache`` by what the requirements file says.
    """
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    folder = ROOT / ".cache" / f"sdk-{sys.version_info[0]}.{sys.version_info[1]}-{digest}"
    python, stamp = folder / "bin" / "python", folder / ".installed"
    folder.parent.mkdir(exist_ok=True)
    # Several test processes may ask at once: one installs, the others wait for it.
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists():
            uv = str(Path(sys.executable).with_name("uv"))
            _run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder))
            _run(
                uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(python),
                str(REQUIREMENTS),
            )  # fmt: skip
            stamp.touch()
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        f"the clients couldn't be installed, and these tests need them: {' '.join(command)}\n"
        f"{done.stderr}"
    )
