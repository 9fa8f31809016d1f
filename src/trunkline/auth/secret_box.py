"""Keeps secrets unreadable where they are stored.

The keys are in a file apart from the store, or come from a command, such as one that has a key
service decrypt them. The first encrypts; all of them decrypt, so a key can be changed. A value is
bound to its place: moved to another name, agent or project it doesn't open.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trunkline.auth.settings import AuthSettings
from trunkline.protocol.errors import TrunklineError

_KEY_FILE: Final = "secrets.key"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_COMMAND_TIMEOUT_S: Final = 30.0


class SecretKeyError(TrunklineError):
    """The keys that secrets are encrypted with can't be had, or aren't the right ones."""

    code = "secret_key"


class SecretBox:
    """Encrypts and decrypts values with AES-256-GCM."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Take the keys: the first encrypts, all decrypt.

        Raises:
            SecretKeyError: If there is none, or one has not 32 bytes.
        """
        if not keys or any(len(key) != _KEY_BYTES for key in keys):
            raise SecretKeyError(f"a key for secrets must be {_KEY_BYTES} bytes in base64")
        self._ciphers = {_id_of(key): AESGCM(key) for key in keys}
        self._first = _id_of(keys[0])
        self._fingerprint_key = hmac.digest(keys[0], b"fingerprint", hashlib.sha256)

    @classmethod
    def open(cls, settings: AuthSettings, state_dir: Path) -> "SecretBox":
        """Return one with the keys the settings name; without any, with a file's of its own.

        Raises:
            SecretKeyError: If they can't be had.
        """
        if settings.secrets_key_command:
            return cls(_keys_in(_run(settings.secrets_key_command)))
        path = settings.secrets_key_file
        if path is None:
            path = state_dir / _KEY_FILE
            _make_file(path)
        try:
            return cls(_keys_in(path.read_text("ascii")))
        except (OSError, UnicodeDecodeError) as exc:
            raise SecretKeyError(f"secrets_key_file: can't read {path}: {exc}") from None

    def seal(self, value: str, *place: str) -> str:
        """Return a value encrypted for a place."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[self._first].encrypt(nonce, value.encode(), _bound(place))
        return f"v1.{self._first}.{base64.b64encode(nonce + sealed).decode()}"

    def unseal(self, sealed: str, *place: str) -> str:
        """Return the value that was encrypted for a place.

        Raises:
            SecretKeyError: If it was encrypted with another key, or for another place.
        """
        version, _, rest = sealed.partition(".")
        key_id, _, text = rest.partition(".")
        cipher = self._ciphers.get(key_id)
        if version != "v1" or cipher is None:
            raise SecretKeyError(
                "a secret was encrypted with a key that isn't here; add it as a further line of "
                "secrets_key_file"
            )
        try:
            data = base64.b64decode(text, validate=True)
            plain = cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _bound(place))
        except (binascii.Error, InvalidTag, ValueError):
            raise SecretKeyError("a secret doesn't open: it was changed, or moved") from None
        return plain.decode()

    def fingerprint(self, value: str) -> str:
        """Return what tells equal values from others, and nothing else without the key."""
        return hmac.new(self._fingerprint_key, value.encode(), hashlib.sha256).hexdigest()


def _id_of(key: bytes) -> str:
    return hashlib.sha256(b"id" + key).hexdigest()[:8]


def _bound(place: Sequence[str]) -> bytes:
    return "\0".join(place).encode()


def _keys_in(text: str) -> list[bytes]:
    try:
        return [base64.b64decode(line, validate=True) for line in text.split()]
    except (binascii.Error, ValueError):
        raise SecretKeyError("the keys for secrets must be base64, one a line") from None


def _run(command: Sequence[str]) -> str:
    # The setting is the operator's own, like the program that starts the platform.
    try:
        done = subprocess.run(  # noqa: S603
            list(command), capture_output=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise SecretKeyError(f"secrets_key_command: {type(exc).__name__}") from None
    if done.returncode != 0:
        raise SecretKeyError(f"secrets_key_command ended with {done.returncode}")
    return done.stdout.decode("ascii", "replace")


def _make_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
    try:
        # A link never replaces a file: of several makers one wins, the others use its key.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
