"""Which session a command means when none is named."""

from trunkline.cli.state import SessionMemory
from trunkline.client import Project
from trunkline.protocol.errors import SessionNotFoundError


async def find_session(project: Project, agent: str, memory: SessionMemory) -> str:
    """Return the session last used with an agent from here, else the one used last.

    Raises:
        SessionNotFoundError: If the agent has none.
    """
    remembered = memory.find(project.endpoint.url, agent)
    if remembered:
        return remembered
    sessions = [session async for session in project.list_sessions(agent)]
    if not sessions:
        raise SessionNotFoundError(
            f"{agent} has no session yet: start one with `trunkline connect {agent}`"
        )
    return max(sessions, key=lambda session: session.last_accessed_at or 0).agent_session_id
