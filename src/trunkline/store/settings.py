"""Where the store is, and how long it may take."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The store, and the limits of one in PostgreSQL."""

    url: str = field(default="", repr=False)
    """Where the store is. Empty: `trunkline.db` in the state directory. `sqlite:///PATH` names
    another file. `postgresql://USER:PASSWORD@HOST:PORT/DATABASE` names a PostgreSQL database
    (tested with 15), and takes `trunkline[postgres]`; libpq's own parameters, such as
    `?sslmode=verify-full`, may follow."""

    url_file: Path | None = None
    """A file with the URL in it, for those who keep passwords in files. Instead of
    `TRUNKLINE_STORE_URL`."""

    pool_size: int = 8
    """Connections to PostgreSQL at most, besides the one for signs of life. Each is busy for some
    milliseconds a call, so a few serve many sessions; all platform processes' together must be
    fewer than the server takes."""

    connect_timeout_s: float = 5.0
    """Seconds PostgreSQL has to accept a connection."""

    timeout_s: float = 10.0
    """Seconds a call may wait for a connection, and as long again for PostgreSQL. Slower ones
    are answered 503."""

    def __post_init__(self) -> None:
        if self.url and self.url_file is not None:
            raise ValueError("url and url_file are both given; keep one of them")
        if self.url:
            file_of(self.url)
        if not 1 <= self.pool_size <= 1000:
            raise ValueError("pool_size must be between 1 and 1000")
        # libpq takes whole seconds, and never less than two.
        if self.connect_timeout_s < 2:
            raise ValueError("connect_timeout_s must be at least 2")
        if self.timeout_s < 1:
            raise ValueError("timeout_s must be at least 1")


def file_of(url: str) -> Path | None:
    """Return the file that a store's URL names, or None if it is a PostgreSQL database.

    Raises:
        ValueError: If it is neither. Nothing of it is repeated: it may hold a password.
    """
    if url.startswith(("postgresql://", "postgres://")):
        return None
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.scheme != "sqlite":
        raise ValueError("url must begin with postgresql:// or sqlite:///, or be empty")
    if parts.netloc or parts.query or parts.fragment or not path.startswith("/") or path == "/":
        raise ValueError(
            "url must name a file by its whole path, such as sqlite:///var/lib/trunkline.db"
        )
    # Some write a fourth slash before a whole path; POSIX gives two leading ones a meaning.
    return Path("/" + path.lstrip("/"))
