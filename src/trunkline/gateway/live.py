"""What goes on now with agents: their open connections, and how many calls failed today."""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from trunkline.gateway.summary import ClosedBy, Summary
from trunkline.protocol.close import CloseCode
from trunkline.protocol.ids import AgentName, ProjectName, SessionKey
from trunkline.sessions.live import AgentNow, Live

_FAULTS: Final = frozenset({CloseCode.INTERNAL_ERROR, CloseCode.BAD_GATEWAY})


def is_failure(summary: Summary) -> bool:
    """Tell whether a connection ended by a fault of the agent's or the platform's."""
    was_lost = summary.code == CloseCode.ABNORMAL and summary.by is ClosedBy.AGENT
    return summary.code in _FAULTS or was_lost


class ErrorsToday:
    """Counts calls that failed for the agent's or the platform's part, by agent, for one day."""

    def __init__(self, today: Callable[[], dt.date] | None = None) -> None:
        """Begin with none.

        Args:
            today: Tells the day.
        """
        self._today = today = today or _today
        self._day = today()
        self._counts: Counter[tuple[ProjectName, AgentName]] = Counter()

    def add(self, project: ProjectName, agent: AgentName) -> None:
        """Count one."""
        self._begin_day()
        self._counts[project, agent] += 1

    def all(self) -> Mapping[tuple[ProjectName, AgentName], int]:
        """Return how many there were since midnight, UTC."""
        self._begin_day()
        return self._counts

    def _begin_day(self) -> None:
        day = self._today()
        if day != self._day:
            self._day = day
            self._counts.clear()
            self._new_day()

    def _new_day(self) -> None:
        """For whoever keeps the counts elsewhere, too."""


class LiveConnections:
    """The connections that this process relays, and those of others that do it for it."""

    def __init__(self, relayed: set[Any], errors: ErrorsToday) -> None:
        """Take what is kept.

        Args:
            relayed: The connections, each a `gateway.relayed.Relayed`.
            errors: What failed.
        """
        self._relayed = relayed
        self._errors = errors
        self.others: list[Live] = []

    async def agents(self) -> Mapping[tuple[ProjectName, AgentName], AgentNow]:
        counts = Counter((each.agent.key.project, each.agent.key.agent) for each in self._ours())
        errors = Counter(self._errors.all())
        for other in self.others:
            for name, now in (await other.agents()).items():
                counts[name] += now.connections
                errors[name] += now.errors_today
        return {name: AgentNow(counts[name], errors[name]) for name in counts.keys() | errors}

    async def connections(
        self, project: ProjectName, agent: AgentName
    ) -> Mapping[SessionKey, Sequence[Mapping[str, Any]]]:
        found: defaultdict[SessionKey, list[Mapping[str, Any]]] = defaultdict(list)
        for each in self._ours():
            key = each.agent.key
            if (key.project, key.agent) == (project, agent):
                found[key].append(each.so_far())
        for other in self.others:
            for key, theirs in (await other.connections(project, agent)).items():
                found[key] += theirs
        for events in found.values():
            events.sort(key=lambda event: str(event["opened_at"]), reverse=True)
        return found

    def _ours(self) -> Iterator[Any]:
        # What leads to another process of the platform is that one's to tell.
        return (each for each in self._relayed if each.agent.is_local)


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
