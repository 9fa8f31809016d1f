"""Holds a store and a state directory together.

What the store says and what lies in the state directory are about each other: sessions and their
homes, versions and their code, secrets and the key they are encrypted with. With another
directory everything would seem to be there, and nothing would work.
"""

import os
import re
import secrets
from pathlib import Path
from typing import Final

from trunkline.protocol.errors import TrunklineError
from trunkline.store.interface import Store

_FILE: Final = "id"
_ID: Final = re.compile(r"[0-9a-f]{32}")


class OtherStateDirError(TrunklineError):
    """The store is about what lies in another state directory."""

    code = "other_state_dir"


async def check_state_dir(store: Store, state_dir: Path, *, what: str) -> None:
    """Refuse a store that another state directory belongs to.

    A store that none belongs to yet takes this one.

    Args:
        store: The store.
        state_dir: The state directory.
        what: What to call the store.

    Raises:
        OtherStateDirError: If it is so.
    """
    own = _id_of(state_dir)
    if await store.state_id(own) != own:
        raise OtherStateDirError(
            f"{what} belongs to another state directory than {state_dir}: the sessions' "
            "files, the agents' code and the keys are there. Processes that share a store share "
            "its state directory, too; name it with --state-dir, or use another store"
        )


def _id_of(state_dir: Path) -> str:
    path = state_dir / _FILE
    if not path.exists():
        draft = path.with_name(f".{_FILE}.{secrets.token_hex(4)}")
        draft.write_text(secrets.token_hex(16))
        try:
            # Several processes may do this at once; the first one's stays.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    text = path.read_text().strip()
    if not _ID.fullmatch(text):
        raise OtherStateDirError(f"{path} must hold 32 hex digits; restore it from a backup")
    return text
