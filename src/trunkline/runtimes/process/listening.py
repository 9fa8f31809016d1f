"""Where an agent may listen: a private Unix socket, and a port nobody else gets."""

import contextlib
import secrets
import shutil
import socket
import sys
from pathlib import Path

from trunkline.protocol.environment import AGENT_SOCKET, PORT
from trunkline.runtimes.interface import Address

MAX_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103
_SOCKET_NAME = "agent.sock"
#: A sandboxed agent's folder is inside another.
_LONGEST_NAME = f"in/{_SOCKET_NAME}"
_NAME_BYTES = 6

# Linux lets a second socket bind a port on which nobody listens if both set SO_REUSEADDR, as
# every server we tried does, and doesn't offer such a port to anyone who asks for a free one.
# Elsewhere holding the port would keep the agent itself from it.
_CAN_HOLD_PORT = sys.platform == "linux"


class Endpoint:
    """One agent's places to listen. Made before the process, removed after it."""

    def __init__(self, directory: Path, reservation: socket.socket | None, port: int) -> None:
        self._directory = directory
        self._reservation = reservation
        self._is_ours = True
        self.port = port
        self.socket_path = str(directory / _SOCKET_NAME)

    @classmethod
    def make(cls, run_dir: Path) -> "Endpoint":
        """Make a directory for the Unix socket, and reserve a port."""
        directory = run_dir / secrets.token_hex(_NAME_BYTES)
        directory.mkdir(mode=0o700)
        reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        endpoint = cls(directory, reservation, 0)
        try:
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reservation.bind(("127.0.0.1", 0))
            endpoint.port = reservation.getsockname()[1]
        except OSError:
            endpoint.remove()
            raise
        if not _CAN_HOLD_PORT:
            endpoint.release_port()
        return endpoint

    @property
    def directory(self) -> Path:
        """Where the Unix socket is."""
        return self._directory

    @property
    def listens_in(self) -> Path:
        """The folder in which the agent's Unix socket is to appear."""
        return self._directory

    def is_own_socket(self, address: Address) -> bool:
        """Tell whether an address is the agent's own socket, and not its port."""
        return address.path is not None

    @property
    def reservation(self) -> int | None:
        """The open file that holds the port, if one does."""
        return None if self._reservation is None else self._reservation.fileno()

    def let_go(self) -> None:
        """Remove nothing at the end: another process does."""
        self.release_port()
        self._is_ours = False

    def candidate(self) -> Address:
        """Return where the agent may be listening: its Unix socket, once that is there."""
        if Path(self.socket_path).exists():
            return Address(path=self.socket_path)
        return Address(port=self.port)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that tell an agent where to listen."""
        return {PORT: str(self.port), AGENT_SOCKET: self.socket_path}

    def release_port(self) -> None:
        """Give the port up: the agent listens on the Unix socket."""
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None

    def remove(self) -> None:
        """Remove the socket and give the port up. Twice is fine."""
        self.release_port()
        if self._is_ours:
            shutil.rmtree(self._directory, ignore_errors=True)


def prepare_run_dir(run_dir: Path) -> None:
    """Make the directory agents' sockets are kept in, closed to everyone else.

    Raises:
        ValueError: If paths in it would be too long for a Unix socket.
    """
    longest = run_dir / ("0" * 2 * _NAME_BYTES) / _LONGEST_NAME
    if (length := len(str(longest).encode())) > MAX_SOCKET_PATH_BYTES:
        msg = (
            f"run_dir is too long: a socket in it would have a path of {length} bytes, and "
            f"{MAX_SOCKET_PATH_BYTES} are allowed"
        )
        raise ValueError(msg)
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    run_dir.chmod(0o700)


def remove_run_dir(run_dir: Path) -> None:
    """Remove the directory if nothing is left in it."""
    with contextlib.suppress(OSError):
        run_dir.rmdir()
