"""What a request asks for: the project, agent and session in its path and query.

Pure functions of the request's target, so every rule here is tested without a socket.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus

from trunkline.protocol import headers
from trunkline.protocol.errors import InvalidRequestError, NotFoundError, PreviewFeatureError
from trunkline.protocol.ids import (
    AGENT_NAME_RULE,
    DEFAULT_PROJECT_ALIASES,
    SESSION_ID_RULE,
    AgentName,
    ProjectName,
    SessionId,
    is_agent_name,
    is_session_id,
)

#: The preview dispatcher's path. It also reads as project ``agents``, so it is matched first.
PREVIEW_PATH = "/api/projects/agents/endpoint/protocols/invocations_ws"
PROTOCOL = "invocations_ws"

#: Targets that are remembered, and the most characters of one: most clients come again.
_MAX_REMEMBERED = 2048
_MAX_REMEMBERED_CHARS = 1024

_NEW_PATH = re.compile(r"/api/projects/([^/]+)/agents/([^/]+)/endpoint/protocols/invocations_ws")
_CONSUMED_NEW = frozenset({headers.QUERY_API_VERSION})
_CONSUMED_PREVIEW = frozenset(
    {
        headers.QUERY_API_VERSION,
        headers.QUERY_PROJECT,
        headers.QUERY_AGENT,
        headers.QUERY_FEATURES,
    }
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a connection is to go.

    Attributes:
        project: The project's name.
        agent: The agent's name.
        session_id: The session asked for, or None for a new one.
        query: What the agent gets to see of the query, as it was sent.
    """

    project: ProjectName
    agent: AgentName
    session_id: SessionId | None
    query: str


class Projects:
    """The projects there are, and the names for them."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = {name: ProjectName(name) for name in names}
        self._names.update(dict.fromkeys(DEFAULT_PROJECT_ALIASES, ProjectName(names[0])))

    def find(self, name: str | None) -> ProjectName | None:
        """Return the project of that name, or None."""
        return self._names.get(name or "")

    def get(self, name: str) -> ProjectName:
        """Return the project of that name.

        Raises:
            NotFoundError: If there is none.
        """
        project = self._names.get(name)
        if project is None:
            raise NotFoundError(f"no project {name[:64]!r} here")
        return project


def is_websocket_path(path: str) -> bool:
    """Tell whether a path, without its query, is one of the two WebSocket endpoints."""
    return path == PREVIEW_PATH or _NEW_PATH.fullmatch(path) is not None


def match_websocket(path: str, query: str, features: str | None, projects: Projects) -> Target:
    """Return what an upgrade asks for.

    Args:
        path: The target's path, percent-encoded as it was sent.
        query: The target's query, likewise.
        features: The ``Foundry-Features`` header.
        projects: The projects there are.

    Raises:
        NotFoundError: If it isn't one of the two endpoints, or lacks what they require.
        PreviewFeatureError: If the preview form lacks its flag.
        InvalidRequestError: If the session id isn't one.
    """
    is_short = len(path) + len(query) + len(features or "") <= _MAX_REMEMBERED_CHARS
    return (_remembered if is_short else _match)(path, query, features, projects)


def _match(path: str, query: str, features: str | None, projects: Projects) -> Target:
    pairs = _split_query(query)
    values = _values(pairs)
    if path == PREVIEW_PATH:
        _require_preview_flag(values, features)
        project, agent = _required(values, headers.QUERY_PROJECT, headers.QUERY_AGENT)
        if headers.QUERY_API_VERSION in values:
            _check_api_version(values)
        consumed = _CONSUMED_PREVIEW
    elif match := _NEW_PATH.fullmatch(path):
        if headers.QUERY_API_VERSION not in values:
            raise NotFoundError(
                f"the query lacks {headers.QUERY_API_VERSION}; add `?api-version=v1`"
            )
        _check_api_version(values)
        project, agent = unquote(match[1]), unquote(match[2])
        consumed = _CONSUMED_NEW
    else:
        raise NotFoundError("no WebSocket endpoint is at this path")
    return Target(
        projects.get(project),
        parse_agent(agent),
        parse_session_id(values),
        "&".join(raw for name, raw in pairs if name not in consumed),
    )


#: What a target asks for never changes. A refusal isn't remembered: nobody gains by that.
_remembered = functools.lru_cache(_MAX_REMEMBERED)(_match)


def parse_agent(name: str) -> AgentName:
    """Return an agent's name.

    Raises:
        NotFoundError: If nothing can have that name.
    """
    if not is_agent_name(name):
        raise NotFoundError(f"no agent can have that name; names are {AGENT_NAME_RULE}")
    return AgentName(name)


def parse_session_id(values: Mapping[str, list[str]]) -> SessionId | None:
    """Return the session a query names; an empty value counts as none.

    Raises:
        InvalidRequestError: If it names one that can't be, or two.
    """
    given = [value for value in values.get(headers.QUERY_SESSION_ID, ()) if value]
    if not given:
        return None
    if len(set(given)) > 1:
        raise InvalidRequestError(
            "the query names two sessions; give agent_session_id once",
            param=headers.QUERY_SESSION_ID,
        )
    if not is_session_id(given[0]):
        raise InvalidRequestError(
            f"agent_session_id must be {SESSION_ID_RULE}", param=headers.QUERY_SESSION_ID
        )
    return SessionId(given[0])


def check_api_version(given: str | None) -> None:
    """Refuse a plain HTTP request of no or another version.

    Raises:
        InvalidRequestError: If it is one.
    """
    if given not in headers.API_VERSIONS:
        raise InvalidRequestError(
            "the query must have api-version=v1", param=headers.QUERY_API_VERSION
        )


def parse_query(query: str) -> dict[str, list[str]]:
    """Return a query's values by name, decoded."""
    return _values(_split_query(query))


def without_consumed(query: str) -> str:
    """Return a query as the agent gets to see it: without ``api-version``."""
    return "&".join(raw for name, raw in _split_query(query) if name not in _CONSUMED_NEW)


def _split_query(query: str) -> list[tuple[str, str]]:
    # The raw pairs are kept: what isn't ours goes to the agent byte for byte.
    return [(_decoded(raw.partition("=")[0]), raw) for raw in query.split("&") if raw]


def _values(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, raw in pairs:
        # Only the first "=" separates: `foundry_features=HostedAgents=V1Preview` is sent raw.
        values.setdefault(name, []).append(_decoded(raw.partition("=")[2]))
    return values


def _decoded(text: str) -> str:
    return unquote_plus(text) if "%" in text or "+" in text else text


def _require_preview_flag(values: Mapping[str, list[str]], features: str | None) -> None:
    given = ",".join([*values.get(headers.QUERY_FEATURES, ()), features or ""])
    if headers.HOSTED_AGENTS_FLAG not in [flag.strip() for flag in given.split(",")]:
        raise PreviewFeatureError(
            f"this is the preview form of the endpoint: add the query "
            f"`{headers.QUERY_FEATURES}={headers.HOSTED_AGENTS_FLAG}` or the header "
            f"`Foundry-Features: {headers.HOSTED_AGENTS_FLAG}`, or use "
            "/api/projects/PROJECT/agents/AGENT/endpoint/protocols/invocations_ws?api-version=v1",
            param="Foundry-Features",
        )


def _required(values: Mapping[str, list[str]], *names: str) -> list[str]:
    missing = [name for name in names if not any(values.get(name, ()))]
    if missing:
        raise NotFoundError(f"the query lacks {' and '.join(missing)}")
    return [next(value for value in values[name] if value) for name in names]


def _check_api_version(values: Mapping[str, list[str]]) -> None:
    given = values[headers.QUERY_API_VERSION][0]
    if given not in headers.API_VERSIONS:
        raise NotFoundError(
            f"api-version {given[:32]!r} isn't known here; use {headers.API_VERSIONS[0]}"
        )
