"""All settings of the platform, from one environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline import config
from trunkline.auth.rates import RateSettings
from trunkline.auth.settings import AuthSettings
from trunkline.console.settings import ConsoleSettings
from trunkline.control.settings import ControlSettings
from trunkline.gateway.settings import GatewaySettings
from trunkline.runtimes.process.settings import ProcessSettings
from trunkline.sessions.settings import SessionSettings
from trunkline.store.settings import StoreSettings

#: Every component's settings by the word in their variables: ``TRUNKLINE_GATEWAY_...``.
COMPONENTS: Mapping[str, type[Any]] = {
    "gateway": GatewaySettings,
    "auth": AuthSettings,
    "rates": RateSettings,
    "console": ConsoleSettings,
    "control": ControlSettings,
    "store": StoreSettings,
    "sessions": SessionSettings,
    "process": ProcessSettings,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformSettings:
    """The settings of every component."""

    gateway: GatewaySettings
    auth: AuthSettings
    rates: RateSettings
    console: ConsoleSettings
    control: ControlSettings
    store: StoreSettings
    sessions: SessionSettings
    process: ProcessSettings


def load_settings(env: Mapping[str, str], state_dir: Path) -> PlatformSettings:
    """Read all settings, and refuse variables that set nothing.

    Args:
        env: The process's environment.
        state_dir: Where the platform keeps its state.

    Raises:
        SettingsError: With everything that is wrong, not just the first.
    """
    given: dict[str, dict[str, Any]] = {
        "process": {"state_dir": state_dir, "platform_environment": dict(env)}
    }
    problems: list[str] = []
    loaded: dict[str, Any] = {}
    for component, settings in COMPONENTS.items():
        try:
            loaded[component] = config.load(component, settings, env, **given.get(component, {}))
        except config.SettingsError as exc:
            problems += exc.problems
    try:
        config.check_unknown(env, COMPONENTS)
    except config.SettingsError as exc:
        problems += exc.problems
    if problems:
        raise config.SettingsError(problems)
    return PlatformSettings(**loaded)
