"""Secrets that browsers have, kept as files that don't tell them.

A file is named by its secret's hash, so any process of the platform finds it, and who reads a copy
of the directory has none of the secrets. What a file holds for the secret's owner alone is
encrypted with the secret itself.
"""

import base64
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_bytes, token_hex, token_urlsafe
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_SECRET_BYTES: Final = 24
_NONCE_BYTES: Final = 12
_KEY_PURPOSE: Final = b"trunkline console, what is kept for a secret\0"


@dataclass(frozen=True, slots=True)
class Held:
    """What is known by a secret.

    Attributes:
        user: Whose it is.
        until: When it ends, in Unix seconds.
        kept: What is kept for it, which nobody reads without it.
        made_at: When it was made, in Unix seconds.
    """

    user: str
    until: float
    kept: str = ""
    made_at: float = field(default=0.0, compare=False)


class Secrets:
    """Secrets of one kind, each for one user, until a time."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock

    def make(self, user: str, lifetime_s: float, *, kept: str = "") -> str:
        """Return a new one. Those that have expired are removed."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep()
        secret = token_urlsafe(_SECRET_BYTES)
        now = self._clock()
        self._write(secret, Held(user, now + lifetime_s, kept, now))
        return secret

    def find(self, secret: str) -> Held | None:
        """Return what is known by it, or None."""
        return self._read(self._path(secret), secret)

    def take(self, secret: str) -> Held | None:
        """Return what is known by it and make it worthless; of two who try, one gets it."""
        path = self._path(secret)
        mine = path.with_name(f"{path.name}.{token_hex(8)}")
        try:
            path.rename(mine)
        except FileNotFoundError:
            return None
        held = self._read(mine, secret)
        mine.unlink(missing_ok=True)
        return held

    def change(self, secret: str, held: Held) -> None:
        """Keep something else for it."""
        self._write(secret, held)

    def remove(self, secret: str) -> None:
        """Make it worthless. Twice is fine."""
        self._path(secret).unlink(missing_ok=True)

    def _path(self, secret: str) -> Path:
        return self._folder / hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()

    def _write(self, secret: str, held: Held) -> None:
        body = {"user": held.user, "until": held.until, "made": held.made_at}
        if held.kept:
            body["sealed"] = _seal(secret, held.kept)
        path = self._path(secret)
        draft = path.with_name(f"{path.name}.{token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(body, file)
        draft.replace(path)

    def _read(self, path: Path, secret: str | None = None) -> Held | None:
        try:
            body = json.loads(path.read_bytes())
            if body["until"] <= self._clock():
                return None
            sealed = body.get("sealed", "")
            kept = _unseal(secret, sealed) if secret is not None and sealed else ""
            made_at = float(body.get("made", 0))
            return Held(str(body["user"]), float(body["until"]), kept, made_at)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidTag):
            return None

    def _sweep(self) -> None:
        for path in self._folder.iterdir():
            # One with an ending is being written, or taken.
            if not path.suffix and self._read(path) is None:
                path.unlink(missing_ok=True)


def _cipher(secret: str) -> AESGCM:
    # It is random and long enough: nothing has to make guessing it slow.
    return AESGCM(hashlib.sha256(_KEY_PURPOSE + secret.encode()).digest())


def _seal(secret: str, text: str) -> str:
    nonce = token_bytes(_NONCE_BYTES)
    return base64.b64encode(nonce + _cipher(secret).encrypt(nonce, text.encode(), None)).decode()


def _unseal(secret: str, sealed: str) -> str:
    raw = base64.b64decode(sealed)
    return _cipher(secret).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None).decode()
