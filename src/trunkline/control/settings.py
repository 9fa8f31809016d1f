"""How much the control plane takes in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """Limits of the control plane."""

    max_versions: int = 1000
    """How many versions an agent may have, drafts included. Deleting some makes room."""

    max_file_bytes: int = 50 * 1024 * 1024
    """How long a file may be that is put into a session; a longer one is refused with 413."""

    def __post_init__(self) -> None:
        if self.max_file_bytes < 1:
            raise ValueError("max_file_bytes must be at least 1")
        if self.max_versions < 1:
            raise ValueError("max_versions must be at least 1")
