"""Opens the store that the settings name."""

import importlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from trunkline.store.errors import StoreNotOpenError
from trunkline.store.interface import Store
from trunkline.store.settings import StoreSettings, file_of
from trunkline.store.sqlite.engine import open_sqlite

_POSTGRES: Final = "trunkline.store.postgres.engine"
_FILE: Final = "TRUNKLINE_STORE_URL_FILE"


class StorePlace:
    """Where the store is, before it is opened."""

    def __init__(self, settings: StoreSettings, state_dir: Path) -> None:
        """Look at what the settings name.

        Raises:
            StoreNotOpenError: If the file with the URL can't be read, or has no URL in it.
        """
        self._settings = settings
        self._url = settings.url if settings.url_file is None else _url_in(settings.url_file)
        self.file: Path | None = state_dir / "trunkline.db"
        """The file, if it is one."""
        if self._url:
            try:
                self.file = file_of(self._url)
            except ValueError as exc:
                raise StoreNotOpenError(f"{_FILE}: {exc}") from None

    @property
    def is_shared(self) -> bool:
        """Whether several platform processes may use it at once."""
        return self.file is None

    @property
    def shown(self) -> str:
        """What to call it, without a word of its URL."""
        if self.file is not None:
            return f"the store {self.file}"
        return "the database that TRUNKLINE_STORE_URL names"

    async def open(self) -> Store:
        """Open it, making what it lacks.

        Raises:
            StoreNotOpenError: If it isn't there, or its driver isn't.
            SchemaTooNewError: If a newer trunkline wrote it.
        """
        if self.file is not None:
            return await open_sqlite(self.file)
        return await _open_postgres()(self._url, self._settings)


def _url_in(file: Path) -> str:
    try:
        url = file.read_text("utf-8").strip()
    except OSError as exc:
        raise StoreNotOpenError(f"{_FILE}: can't read {file}: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise StoreNotOpenError(f"{_FILE}: {file} isn't text") from None
    if not url:
        raise StoreNotOpenError(f"{_FILE}: {file} is empty")
    return url


def _open_postgres() -> Callable[[str, StoreSettings], Awaitable[Store]]:
    # Only now: the driver is an extra, and loading it takes time.
    try:
        module: Any = importlib.import_module(_POSTGRES)
    except ImportError:
        raise StoreNotOpenError(
            "TRUNKLINE_STORE_URL names a PostgreSQL database, and its driver isn't installed: "
            "pip install 'trunkline[postgres]'"
        ) from None
    found: Callable[[str, StoreSettings], Awaitable[Store]] = module.open_postgres
    return found
