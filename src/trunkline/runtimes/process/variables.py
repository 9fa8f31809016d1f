"""The whole environment of an agent's process, out of everything that has a say in it."""

import os
from collections.abc import Mapping

from trunkline.protocol.environment import HOME, NODE
from trunkline.runtimes.interface import InstanceSpec

_INHERITED = ("LANG", "TZ")


def agent_environment(
    spec: InstanceSpec,
    places: Mapping[str, str],
    platform: Mapping[str, str],
    defaults: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the whole environment of an agent: nothing of the platform's gets in by itself.

    Args:
        spec: The agent.
        places: Where it listens and lives; nothing wins over these.
        platform: The platform's own environment.
        defaults: What anything else wins over.
    """
    env = {name: platform[name] for name in _INHERITED if name in platform}
    env |= defaults or {}
    env |= spec.launch.environment
    env |= spec.environment
    path = spec.environment.get("PATH") or platform.get("PATH") or os.defpath
    first = spec.launch.environment.get("PATH")
    env["PATH"] = f"{first}{os.pathsep}{path}" if first else path
    env |= {HOME: str(spec.home), NODE: spec.node, "PYTHONUNBUFFERED": "1"}
    env |= places
    return env
