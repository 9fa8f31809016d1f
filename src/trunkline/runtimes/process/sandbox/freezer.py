"""Stops an agent's processes where they are, and lets them go on: control groups' freezer.

Version 2 freezes by a file that every group has, whatever its controllers; version 1 has a
controller for it. A machine may have version 2 beside version 1, and then that is used: what is
frozen there can still be killed, and its group counts processor time without a controller.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FOLDER_MODE = 0o755
_FREEZE_FILES = {1: "freezer.state", 2: "cgroup.freeze"}
_FREEZE = {1: "FROZEN", 2: "1"}
_THAW = {1: "THAWED", 2: "0"}
_JOIN_FILES = {1: "tasks", 2: "cgroup.procs"}
_THAW_TRIES = 100
_THAW_PAUSE_S = 0.001


@dataclass(frozen=True, slots=True)
class FreezerPlace:
    """Where groups can be made that can be frozen."""

    version: int
    folder: Path
    accounting: Path
    """Where processor time is counted; the same folder in version 2."""

    def make(self, name: str) -> "Freezer":
        """Make a group. One that is there, because it bounds the agent as well, is used.

        Raises:
            OSError: If the kernel refuses.
        """
        freezer = Freezer(self.version, self.folder / name, self.accounting / name)
        for folder in freezer.folders:
            folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        return freezer

    def thaw_all(self, prefix: str) -> None:
        """Let everything go on whose group's name begins so: of platforms that were killed."""
        for folder in self.folder.glob(f"{prefix}*"):
            Freezer(self.version, folder, folder).thaw()


class Freezer:
    """One agent's group, as far as it can be frozen."""

    def __init__(self, version: int, folder: Path, accounting: Path) -> None:
        self.version = version
        self.folder = folder
        self.accounting = accounting
        self._file = folder / _FREEZE_FILES[version]

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders it is made of."""
        return tuple(dict.fromkeys((self.folder, self.accounting)))

    @property
    def joins(self) -> tuple[Path, ...]:
        """The files that an agent joins by."""
        return tuple(folder / _JOIN_FILES[self.version] for folder in self.folders)

    def freeze(self) -> None:
        """Begin to freeze all that is in it.

        Raises:
            OSError: If the kernel refuses.
        """
        self._file.write_text(_FREEZE[self.version])

    def thaw(self) -> None:
        """Let all that is in it go on. One that isn't frozen, or is gone, stays as it is."""
        for _ in range(_THAW_TRIES):
            try:
                self._file.write_text(_THAW[self.version])
            except (FileNotFoundError, NotADirectoryError):
                return
            except OSError:
                # The kernel has no reason to refuse for long, and an agent that stays frozen is
                # worse than a moment's wait.
                time.sleep(_THAW_PAUSE_S)
            else:
                return

    @property
    def is_frozen(self) -> bool:
        """Whether nothing in it runs any more."""
        try:
            if self.version == 1:
                return self._file.read_text().strip() == "FROZEN"
            return "frozen 1" in (self.folder / "cgroup.events").read_text().splitlines()
        except OSError:
            return False

    def cpu_s(self) -> float | None:
        """Return how long it has used a processor, all told; None if that isn't known."""
        try:
            if self.version == 1:
                return int((self.accounting / "cpuacct.usage").read_text()) / 1e9
            for line in (self.accounting / "cpu.stat").read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "usage_usec":
                    return int(value) / 1e6
        except (OSError, ValueError):
            pass
        return None

    def describe(self) -> dict[str, Any]:
        """Return it as plain data, for another process of the platform."""
        return {
            "version": self.version,
            "folder": str(self.folder),
            "accounting": str(self.accounting),
        }

    @classmethod
    def from_description(cls, data: Mapping[str, Any]) -> "Freezer":
        """Return what was described."""
        return cls(data["version"], Path(data["folder"]), Path(data["accounting"]))


def find_freezer(
    places: Mapping[str, Path], is_usable: Callable[[Path], bool]
) -> FreezerPlace | str:
    """Return where groups can be made that can be frozen, or why nowhere.

    Args:
        places: Our own group's folder for each controller of version 1, and for version 2 by ''.
        is_usable: Tells whether groups can be made in a folder.
    """
    reasons = []
    if (unified := places.get("")) is not None:
        if is_usable(unified):
            return FreezerPlace(2, unified, unified)
        reasons.append(f"{unified} can't be written to")
    if (frozen := places.get("freezer")) is not None:
        counted = places.get("cpuacct")
        if counted is None:
            reasons.append("no control group counts processor time (cpuacct)")
        elif is_usable(frozen) and is_usable(counted):
            return FreezerPlace(1, frozen, counted)
        else:
            reasons.append(f"{frozen} or {counted} can't be written to")
    return "; ".join(reasons) or "this machine's control groups can't freeze"
