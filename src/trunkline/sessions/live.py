"""What a session uses and carries now: the words that control and gateway have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trunkline.protocol.ids import AgentName, ProjectName, SessionKey
from trunkline.runtimes.interface import ResourceUse


@dataclass(slots=True)
class Traffic:
    """What went over connections: frames, and bytes with the frames' headers."""

    frames_in: int = 0
    bytes_in: int = 0
    frames_out: int = 0
    bytes_out: int = 0

    def add(self, event: Mapping[str, Any]) -> None:
        """Add what a connection's event says."""
        self.frames_in += event["in"]["frames"]
        self.bytes_in += event["in"]["bytes"]
        self.frames_out += event["out"]["frames"]
        self.bytes_out += event["out"]["bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUse:
    """What a session that runs uses, and what went over its connections that are over."""

    resources: ResourceUse
    ended: Traffic


@dataclass(frozen=True, slots=True)
class AgentNow:
    """What goes on with an agent.

    Attributes:
        connections: How many are open to it.
        errors_today: Calls that failed for its or the platform's part since midnight, UTC.
    """

    connections: int = 0
    errors_today: int = 0


class Live(Protocol):
    """Tells what goes on now with the sessions that run here."""

    async def agents(self) -> Mapping[tuple[ProjectName, AgentName], AgentNow]:
        """Return what goes on with agents; those with which nothing does may be left out."""

    async def connections(
        self, project: ProjectName, agent: AgentName
    ) -> Mapping[SessionKey, Sequence[Mapping[str, Any]]]:
        """Return the connections that are open to an agent's sessions, the newest first.

        Each is an event that says what went over it so far.
        """


class NothingLive:
    """Stands for a gateway where there is none."""

    async def agents(self) -> Mapping[tuple[ProjectName, AgentName], AgentNow]:
        return {}

    async def connections(
        self, project: ProjectName, agent: AgentName
    ) -> Mapping[SessionKey, Sequence[Mapping[str, Any]]]:
        return {}
