"""Requests that agents are answering now, so that they may ask the platform about them.

An agent has no token of its own. While it answers a request it may read what belongs to that
request with the request's call id, which nobody else knows.
"""

from collections.abc import Mapping, Sequence

from trunkline.protocol.ids import AgentName, ProjectName, SessionId, SessionKey


class Calls:
    """The calls that are open, by their ids."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, SessionKey]] = {}

    def open(self, call_id: str, owner: str, session: SessionKey) -> None:
        """Let the call id stand for its caller, towards the agent that answers in a session."""
        self._open[call_id] = (owner, session)

    def described(self) -> dict[str, list[str]]:
        """Return all of them as plain data for `take_over`."""
        return {
            call_id: [owner, session.project, session.agent, session.session_id]
            for call_id, (owner, session) in self._open.items()
        }

    def take_over(self, described: Mapping[str, Sequence[str]]) -> None:
        """Let those stand that another process has let stand, until `close`."""
        for call_id, (owner, project, agent, *session) in described.items():
            # Older processes don't say which session it is.
            key = SessionKey(
                ProjectName(project), AgentName(agent), SessionId(session[0] if session else "")
            )
            self.open(call_id, owner, key)

    def close(self, call_id: str) -> None:
        """Let it stand for nobody. Twice is fine."""
        self._open.pop(call_id, None)

    def owner_of(self, call_id: str, project: ProjectName, agent: AgentName) -> str | None:
        """Return on whose behalf an open call to that agent was made, or None."""
        owner, session = self._open.get(call_id, (None, None))
        if session is None or (session.project, session.agent) != (project, agent):
            return None
        return owner

    def owner_in(self, call_id: str, session: SessionKey) -> str | None:
        """Return on whose behalf an open call was made that is answered in that session."""
        owner, where = self._open.get(call_id, (None, None))
        return owner if where == session else None
