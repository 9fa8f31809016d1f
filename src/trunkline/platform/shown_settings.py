"""The settings that a platform would start with here: what they are, and whether they are good."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from trunkline import config
from trunkline.auth.providers import load_providers
from trunkline.platform.certificate import Certificate
from trunkline.platform.settings import COMPONENTS, PlatformSettings, load_settings
from trunkline.store.opening import StorePlace

_HIDDEN: Final = "(set)"


@dataclasses.dataclass(frozen=True, slots=True)
class ShownSetting:
    """One setting, in the words that would set it."""

    variable: str
    value: str
    """What it is; of one that may hold a password only that it is set."""
    default: str
    is_set: bool
    """Whether the environment names it."""


def check(env: Mapping[str, str], state_dir: Path) -> PlatformSettings:
    """Load the settings, and the files they name.

    Raises:
        SettingsError: With all settings that are wrong, or with what is wrong in a file.
        StoreNotOpenError: If the file with the store's URL can't be used.
    """
    settings = load_settings(env, state_dir)
    load_providers(settings.auth)
    Certificate.of(settings.gateway)
    StorePlace(settings.store, state_dir)
    return settings


def shown(env: Mapping[str, str], state_dir: Path) -> list[ShownSetting]:
    """List every setting.

    Raises:
        SettingsError: If some are wrong.
    """
    settings = load_settings(env, state_dir)
    found = []
    for component, cls in COMPONENTS.items():
        own = getattr(settings, component)
        is_plain = {each.name: each.repr for each in dataclasses.fields(cls)}
        for doc in config.describe(component, cls):
            value = getattr(own, doc.name)
            told = _words(value) if is_plain[doc.name] or not value else _HIDDEN
            found.append(ShownSetting(doc.variable, told, _words(doc.default), doc.variable in env))
    return found


def _words(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, float):
        # As somebody would write it.
        return str(int(value)) if value.is_integer() else str(value)
    return str(value)
