"""The names of things, their types, and what a valid one looks like."""

import re
from typing import NamedTuple, NewType

ProjectName = NewType("ProjectName", str)
AgentName = NewType("AgentName", str)
VersionId = NewType("VersionId", str)
SessionId = NewType("SessionId", str)
#: One running platform process among those that share a store.
NodeId = NewType("NodeId", str)

DEFAULT_PROJECT = ProjectName("default")
#: Names clients use for "the default project", whatever it is called.
DEFAULT_PROJECT_ALIASES = frozenset({"_default", "_project"})

MAX_SESSION_ID_CHARS = 256
SESSION_ID_RULE = f"1 to {MAX_SESSION_ID_CHARS} characters out of A-Z a-z 0-9 . _ : -"
AGENT_NAME_RULE = "1 to 63 letters, digits and hyphens, starting and ending with a letter or digit"

#: What a whole id, or name, looks like: for regular expressions of any kind.
SESSION_ID_PATTERN = rf"[A-Za-z0-9._:-]{{1,{MAX_SESSION_ID_CHARS}}}"
AGENT_NAME_PATTERN = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

_SESSION_ID = re.compile(SESSION_ID_PATTERN)
_VERSION_ID = re.compile(r"[1-9][0-9]{0,17}|draft-[0-9]{1,18}-[0-9]{1,18}")
_AGENT_NAME = re.compile(AGENT_NAME_PATTERN)


def is_session_id(text: str) -> bool:
    """Tell whether ``text`` may name a session."""
    return _SESSION_ID.fullmatch(text) is not None


def is_agent_name(text: str) -> bool:
    """Tell whether ``text`` may name an agent."""
    return _AGENT_NAME.fullmatch(text) is not None


def is_version_id(text: str) -> bool:
    """Tell whether ``text`` may name a version: a number, or a draft's name."""
    return _VERSION_ID.fullmatch(text) is not None


# Not a dataclass: it is looked up by again and again, and a tuple does that without any Python.
class SessionKey(NamedTuple):
    """What names one session: its project, its agent, and its id within the agent."""

    project: ProjectName
    agent: AgentName
    session_id: SessionId

    def __str__(self) -> str:
        return f"{self.project}/{self.agent}/{self.session_id}"
