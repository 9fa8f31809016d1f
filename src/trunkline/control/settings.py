"""How much the control plane takes in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """Limits of the control plane."""

    max_versions: int = 1000
    """How many versions an agent may have, drafts included. Deleting some makes room."""

    def __post_init__(self) -> None:
        if self.max_versions < 1:
            raise ValueError("max_versions must be at least 1")
