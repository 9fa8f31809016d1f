"""The certificate the platform shows, and its successor when the files change."""

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Self

from trunkline.config import SettingsError, variable_of
from trunkline.gateway.settings import GatewaySettings

_log = logging.getLogger("trunkline.platform")
_Signature = tuple[tuple[int, int, int], ...]


class Certificate:
    """A certificate with its key, as files.

    Connections that are open keep what they began with; new ones get what was read last.
    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        """Read the files.

        Args:
            certificate: The certificate and those between it and its authority, in PEM.
            key: The key in PEM; None if it is in the same file.

        Raises:
            SettingsError: If they can't be used.
        """
        self._certificate = certificate
        self._key = key
        self.context = _new_context()
        self._tried: _Signature | None = self._signature()
        problem = self._load()
        if problem is not None:
            raise SettingsError([f"{variable_of('gateway', 'tls_certificate')}: {problem}"])

    @classmethod
    def of(cls, settings: GatewaySettings) -> Self | None:
        """Return the one the settings name, if they name one.

        Raises:
            SettingsError: If it can't be used.
        """
        if settings.tls_certificate is None:
            return None
        return cls(settings.tls_certificate, settings.tls_key)

    def look(self) -> None:
        """Read the files anew if they have changed. What can't be used is told, and not used."""
        signature = self._signature()
        if signature == self._tried:
            return
        self._tried = signature
        problem = self._load()
        if problem is None:
            _log.info("the certificate in %s was read anew", self._certificate)
        else:
            _log.error("the certificate isn't changed: %s", problem)

    async def watch(self, interval_s: float) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(interval_s)
            self.look()

    def _load(self) -> str | None:
        # Into a context of its own first: the one in use must never have half of a pair.
        try:
            for context in (_new_context(), self.context):
                context.load_cert_chain(self._certificate, self._key, _no_password)
        except OSError as exc:
            # An SSLError is one, too: the key of another certificate, or no PEM at all.
            return f"{self._certificate} and its key can't be used: {exc}"
        return None

    def _signature(self) -> _Signature | None:
        paths = [self._certificate, *([self._key] if self._key else [])]
        try:
            stats = [path.stat() for path in paths]
        except OSError:
            # One of them is just being replaced.
            return None
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # Renegotiation is at the client's wish, and costs us more than it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _no_password() -> str:
    # Without this OpenSSL would ask at the terminal.
    raise OSError("the key is encrypted; give one that isn't")
