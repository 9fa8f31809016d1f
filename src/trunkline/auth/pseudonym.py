"""Names for users that agents may see: stable per user, and saying nothing about them."""

import functools
import hmac
import os
import secrets
from pathlib import Path

from trunkline.auth.identity import Identity

_KEY_FILE = "pseudonym.key"
_KEY_BYTES = 32
#: Users whose pseudonyms are remembered: most come again.
_MAX_KEPT = 4096


class Pseudonyms:
    """Maps callers to opaque ids under a secret key of this installation."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._of_owner = functools.lru_cache(_MAX_KEPT)(self._made_for)

    @classmethod
    def open(cls, state_dir: Path) -> "Pseudonyms":
        """Read the key of a state directory, making it if it isn't there."""
        path = state_dir / _KEY_FILE
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return cls(path.read_bytes())

    def of(self, identity: Identity) -> str:
        """Return the caller's pseudonym: 32 lower-case hex digits."""
        return self._of_owner(identity.owner)

    def _made_for(self, owner: str) -> str:
        return hmac.digest(self._key, owner.encode(), "sha256").hex()[:32]
