"""A version's launch, as the store keeps it and as the runtime wants it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from trunkline.runtimes.interface import Launch


def launch_to_json(launch: Launch) -> dict[str, Any]:
    """Return a launch as plain data."""
    return dataclasses.asdict(launch)


def launch_from_json(data: Mapping[str, Any]) -> Launch:
    """Return the launch that :func:`launch_to_json` made ``data`` from."""
    return Launch(
        command=tuple(data["command"]),
        working_dir=data["working_dir"],
        environment=dict(data["environment"]),
        notes=tuple(data.get("notes", ())),
    )
