"""What may begin while this process's sessions are passed on to the process that replaces it."""

import asyncio
from enum import Enum, auto

from trunkline.protocol.ids import NodeId, SessionKey
from trunkline.sessions.elsewhere import SessionElsewhereError


class Phase(Enum):
    """How far the passing on has come."""

    OPEN = auto()
    """Nobody replaces this process."""
    QUIET = auto()
    """Nothing starts or stops any more; sessions that run are used as ever."""
    HELD = auto()
    """The sessions are on their way: nothing of them may change."""
    GONE = auto()
    """They are another process's."""


class Gate:
    """Everything that would change a session passes here first, and may have to wait."""

    def __init__(self, node: NodeId) -> None:
        self._node = node
        self._phase = Phase.OPEN
        #: Whether that is how far it has come: nothing has to wait, or is refused.
        self.is_open = True
        self._changed = asyncio.Event()

    @property
    def phase(self) -> Phase:
        """How far it has come."""
        return self._phase

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._phase = phase
        self.is_open = phase is Phase.OPEN
        self._changed.set()
        self._changed = asyncio.Event()

    async def pass_use(self, key: SessionKey) -> None:
        """Wait until a session that runs may be used.

        Raises:
            SessionElsewhereError: If it is another process's by then.
        """
        while self._phase is Phase.HELD:
            await self._changed.wait()
        self._refuse_gone(key)

    async def pass_change(self, key: SessionKey) -> None:
        """Wait until a session may be started or stopped.

        Raises:
            SessionElsewhereError: If it is another process's by then.
        """
        while self._phase in (Phase.QUIET, Phase.HELD):
            await self._changed.wait()
        self._refuse_gone(key)

    def _refuse_gone(self, key: SessionKey) -> None:
        if self._phase is Phase.GONE:
            # The other process is the same node, and listens where this one did.
            raise SessionElsewhereError(key, self._node)
