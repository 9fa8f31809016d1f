"""Where a PostgreSQL database is, taken from its URL without ever repeating the password."""

import re
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

#: What libpq is told unless the URL says otherwise: a peer that vanished is noticed in seconds.
_DEFAULTS: Final = {
    "application_name": "trunkline",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_PORTS = re.compile(r"[0-9]{0,5}(?:,[0-9]{0,5})*")
_FORM = (
    "it must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with every character of the user "
    "and the password that isn't a letter, a digit or one of - . _ ~ percent-encoded"
)


@dataclass(frozen=True, slots=True)
class Target:
    """One database.

    Attributes:
        parameters: What libpq is given. May hold the password.
        shown: The host, the port and the database, for people.
    """

    parameters: dict[str, str] = field(repr=False)
    shown: str

    @classmethod
    def parse(cls, url: str) -> "Target":
        """Return what a ``postgresql://`` URL names.

        Raises:
            ValueError: If it isn't one. A password that isn't encoded reads as something else,
                so nothing of the URL is repeated.
        """
        scheme, _, rest = url.partition("://")
        authority = re.split(r"[/?]", rest, maxsplit=1)[0]
        if scheme not in ("postgresql", "postgres") or "#" in rest:
            raise ValueError(_FORM)
        if rest.count("@") != authority.count("@") or authority.count("@") > 1:
            raise ValueError(_FORM)
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:
            # libpq's own words would quote the URL.
            raise ValueError(_FORM) from None
        parameters = {**_DEFAULTS, **{name: str(value) for name, value in given.items()}}
        if not _PORTS.fullmatch(parameters.get("port", "")):
            raise ValueError(_FORM)
        host = parameters.get("host") or parameters.get("hostaddr") or "this machine"
        port = f" port {parameters['port']}" if parameters.get("port") else ""
        database = parameters.get("dbname") or "the user's own"
        return cls(parameters, f"{host}{port}, database {database}")

    def cleaned(self, words: str) -> str:
        """Return what libpq said as one line, without the password."""
        line = "; ".join(words.split("\n"))[:500]
        password = self.parameters.get("password")
        return line.replace(password, "***") if password else line
