"""Whether the platform serves, and if not why."""

import logging

from trunkline.protocol.errors import UnavailableError
from trunkline.store.interface import Store

_log = logging.getLogger("trunkline.platform")


class Health:
    """What ``/readyz`` answers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_draining = False

    async def problem(self) -> str | None:
        """Return why nothing should be sent here, or None."""
        if self.is_draining:
            return "draining"
        try:
            await self._store.ping()
        except UnavailableError:
            # It has told the log itself.
            return "the store doesn't answer"
        except Exception:  # noqa: BLE001 - whatever a driver raises, the answer is "not ready"
            _log.exception("the store doesn't answer")
            return "the store doesn't answer"
        return None
