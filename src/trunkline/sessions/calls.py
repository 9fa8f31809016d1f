"""Requests that agents are answering now, so that they may ask the platform about them.

An agent has no token of its own. While it answers a request it may read what belongs to that
request with the request's call id, which nobody else knows.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from trunkline.protocol.ids import AgentName, ProjectName


class Calls:
    """The calls that are open, by their ids."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, ProjectName, AgentName]] = {}

    def open(self, call_id: str, owner: str, project: ProjectName, agent: AgentName) -> None:
        """Let the call id stand for its caller, towards one agent."""
        self._open[call_id] = (owner, project, agent)

    def described(self) -> dict[str, list[str]]:
        """Return all of them as plain data for `take_over`."""
        return {call_id: list(call) for call_id, call in self._open.items()}

    def take_over(self, described: Mapping[str, Sequence[str]]) -> None:
        """Let those stand that another process has let stand, until `close`."""
        for call_id, (owner, project, agent) in described.items():
            self.open(call_id, owner, ProjectName(project), AgentName(agent))

    def close(self, call_id: str) -> None:
        """Let it stand for nobody. Twice is fine."""
        self._open.pop(call_id, None)

    @contextmanager
    def opened(
        self, call_id: str, owner: str, project: ProjectName, agent: AgentName
    ) -> Iterator[None]:
        """Have it stand for its caller meanwhile."""
        self.open(call_id, owner, project, agent)
        try:
            yield
        finally:
            self.close(call_id)

    def owner_of(self, call_id: str, project: ProjectName, agent: AgentName) -> str | None:
        """Return on whose behalf an open call to that agent was made, or None."""
        found = self._open.get(call_id)
        if found is None or found[1:] != (project, agent):
            return None
        return found[0]
