"""What this machine gives the platform, and what it lacks: the checks of ``trunkline doctor``."""

import resource
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trunkline.gateway import carrier
from trunkline.platform import descriptors
from trunkline.platform.settings import load_settings
from trunkline.runtimes.process.listening import prepare_run_dir
from trunkline.runtimes.process.sandbox.egress import Resolver
from trunkline.runtimes.process.sandbox.levels import SandboxUnavailableError, find_level
from trunkline.runtimes.process.settings import SandboxMode


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    is_ok: bool
    text: str
    """What there is, or what is missing and why."""
    is_needed: bool = True
    """Whether it is a fault if it is missing."""


def check_relay() -> Check:
    """Say whether the compiled relay is here."""
    if carrier.IS_BUILT:
        return Check("relay", True, "frames are relayed in compiled code")
    if carrier.IS_OUTDATED:
        return Check("relay", False, carrier.OUTDATED)
    return Check(
        "relay", False, "no compiled relay: a frame costs the gateway up to half as much again"
    )


def check_descriptors(env: Mapping[str, str]) -> Check:
    """Say whether a platform with an environment's settings had descriptors for all connections.

    Raises:
        SettingsError: If the settings are wrong.
    """
    settings = load_settings(env, Path(tempfile.gettempdir())).gateway
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fit = descriptors.how_many_fit(hard) * settings.workers
    has = "any number of" if hard == resource.RLIM_INFINITY else f"{hard}"
    said = f"a process may have {has} descriptors, enough for"
    most = settings.max_connections
    if most <= fit:
        return Check("descriptors", True, f"{said} max_connections ({most or 'no limit'})")
    return Check("descriptors", False, f"{said} {fit} connections and not for {most}")


async def check_sandbox(env: Mapping[str, str]) -> list[Check]:
    """Try what a sandbox can protect here, with the settings of an environment.

    Raises:
        SettingsError: If those are wrong.
    """
    # What is tried is tried in a directory that isn't kept.
    with tempfile.TemporaryDirectory(prefix="trunkline-") as folder:
        settings = load_settings(env, Path(folder)).process
        run_dir = Path(folder) / "run"
        prepare_run_dir(run_dir)
        resolver = Resolver()
        try:
            level = await find_level(settings, run_dir, resolver)
        except SandboxUnavailableError as error:
            return [Check("sandbox", False, str(error))]
        finally:
            resolver.close()
    mode = SandboxMode(settings.sandbox)
    checks = [
        Check(
            "sandbox",
            level.ground is not None,
            f"TRUNKLINE_PROCESS_SANDBOX is {mode}"
            + ("" if level.ground is not None else "; agents run without one"),
        )
    ]
    checks += [Check(f"sandbox {p.name}", p.is_active, p.text) for p in level.protections]
    # What protects nothing needn't be there.
    checks += [
        Check(f"sandbox {p.name}", p.is_active, p.text, is_needed=False)
        for p in (level.suspends, level.interfaces)
    ]
    return checks
