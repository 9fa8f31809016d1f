"""What is to be made around one agent: the platform writes it, the launcher obeys it."""

import json
import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Plan:
    """All that a launcher needs to know. Descriptors of cgroups travel beside it."""

    command: tuple[str, ...]
    environment: dict[str, str]
    working_dir: str
    root: str
    """An empty directory to build the view on. A nursery has one of its own for its sessions."""
    binds: tuple[tuple[str, str, str], ...]
    """What is seen: source, place, and ``ro``, ``rw`` or ``dev``."""
    links: tuple[tuple[str, str], ...]
    """Symbolic links: what they say, and their place."""
    files: tuple[tuple[str, str], ...]
    """Small files: place and text."""
    own_files: tuple[tuple[str, str], ...]
    """Those that others of the version have with another text."""
    tmp_bytes: int
    uid: int | None
    """The user to become; None: stay who we are, in a user namespace."""
    own_network: bool
    proxy_port: int
    """Where the way out listens in the session's network; 0: there is none."""
    filter: str
    """The seccomp program in hexadecimal."""
    door_port: int = 0
    """Where the door to the platform is in the session's network; 0: there is none."""
    places: tuple[str, ...] = ()
    """Empty folders: what is seen there is bound later."""
    interface: dict[str, Any] | None = None
    """What its interface is like; its network is made by ``stack`` then, to which the last
    descriptor is the line. None: it has none."""
    is_ahead: bool = False
    """Whether it is made for a session to come."""

    def encode(self) -> bytes:
        """Return it as one message."""
        # Nothing in it has to be taken apart for that, which takes longer than all the rest.
        return json.dumps(vars(self)).encode()

    def file(self) -> int:
        """Return it as an open file of no place, the caller's to close."""
        return file_of(self.encode())


def decode(data: bytes) -> Plan:
    """Read what `Plan.encode` wrote."""
    values = json.loads(data)
    for name in ("command", "binds", "links", "files", "own_files", "places"):
        values[name] = tuple(values[name])
    return Plan(**values)


def file_of(data: bytes) -> int:
    """Return an open file of no place that holds ``data``, the caller's to close."""
    described = os.memfd_create("plan")
    with open(described, "wb", closefd=False) as file:
        file.write(data)
    return described
