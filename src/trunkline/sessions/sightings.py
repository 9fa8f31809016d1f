"""Which of the processes that share a store have stopped giving signs of life."""

from collections.abc import Sequence
from dataclasses import dataclass

from trunkline.protocol.ids import NodeId
from trunkline.store.records import NodeRecord


@dataclass(slots=True)
class _Sighting:
    record: NodeRecord
    silent_s: float = 0.0


class Sightings:
    """What has been seen of the others.

    Only whether a sign of life has changed between two looks counts, never its time: the clocks
    of two machines differ. And only the time in which there were looks counts: while the store
    can't be reached nobody's signs come through.
    """

    def __init__(self, *, interval_s: float, timeout_s: float) -> None:
        """Expect a look every ``interval_s``; who is silent for ``timeout_s`` is dead."""
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._seen: dict[NodeId, _Sighting] = {}
        self._looked_at: float | None = None

    def look(self, nodes: Sequence[NodeRecord], now: float) -> list[NodeRecord]:
        """Take what is there now; return those that are dead.

        Args:
            nodes: All others that are there.
            now: The time in seconds, by a clock that only goes forward.
        """
        since_s = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        seen = {}
        for record in nodes:
            before = self._seen.get(record.node)
            if before is None or before.record.heartbeat_at != record.heartbeat_at:
                seen[record.node] = _Sighting(record)
            else:
                # A gap is no silence: it was this process that didn't look.
                before.silent_s += min(since_s, self._interval_s)
                seen[record.node] = before
        self._seen = seen
        return [s.record for s in seen.values() if s.silent_s >= self._timeout_s]
