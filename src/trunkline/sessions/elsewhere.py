"""Told when a session is run by another process of the platform."""

from trunkline.protocol.errors import UnavailableError
from trunkline.protocol.ids import NodeId, SessionKey


class SessionElsewhereError(UnavailableError):
    """Another process of the platform runs the session: that one is to be asked.

    Whoever can ask it does; for everyone else the session can't be had at the moment.
    """

    def __init__(self, key: SessionKey, node: NodeId) -> None:
        super().__init__(
            f"session {key.session_id!r} is run by another process of the platform; try again"
        )
        self.key = key
        self.node = node
