"""Where a project is: parsing its endpoint, and the addresses below it. No I/O."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit, urlunsplit

from trunkline.protocol import headers
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import AGENT_NAME_RULE, DEFAULT_PROJECT, is_agent_name

DEFAULT_ENDPOINT = "http://127.0.0.1:8080/api/projects/default"
API_VERSION = headers.API_VERSIONS[0]
#: The variables that name a platform; the first one that is set wins.
ENDPOINT_VARIABLES = ("TRUNKLINE_ENDPOINT", "FOUNDRY_PROJECT_ENDPOINT")

_PREFIX = "/api/projects/"
_RULE = "an endpoint looks like https://HOST/api/projects/PROJECT"
_DEFAULT_PORTS = {"http": 80, "https": 443}


class EndpointError(TrunklineError):
    """An address that can't be a project's endpoint, or a name that can't stand in one."""

    code = "invalid_endpoint"
    status = 400


class InsecureEndpointError(TrunklineError):
    """A token would have crossed the network readable by everybody on the way."""

    code = "insecure_endpoint"
    status = 400

    def __init__(self, endpoint: "Endpoint") -> None:
        super().__init__(
            f"{endpoint.url} is plain http on another machine: your token would be readable on "
            "the way, so it isn't sent"
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One project on one platform."""

    scheme: str
    host: str
    port: int
    project: str

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Read ``http(s)://HOST[:PORT]/api/projects/PROJECT``.

        An address without a path means the default project.

        Raises:
            EndpointError: If it is anything else.
        """
        try:
            parts = urlsplit(text.strip())
            port = parts.port
        except ValueError as exc:
            raise EndpointError(f"{text!r} isn't an address: {exc}; {_RULE}") from None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise EndpointError(f"{text!r} isn't an http or https address; {_RULE}")
        if parts.username is not None or parts.query or parts.fragment:
            # The text isn't repeated: what is in front of an @ may be a password.
            raise EndpointError(f"the endpoint has a user, a query or a fragment; {_RULE}")
        path = parts.path.rstrip("/")
        project = path.removeprefix(_PREFIX) if path else DEFAULT_PROJECT
        if project == path or not project or "/" in project:
            raise EndpointError(f"{text!r} doesn't end in {_PREFIX}PROJECT; {_RULE}")
        return cls(parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme], project)

    @property
    def authority(self) -> str:
        """Host and port as they stand in an address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def base(self) -> str:
        """The platform's address, without the project."""
        return f"{self.scheme}://{self.authority}"

    @property
    def url(self) -> str:
        """The project's address."""
        return f"{self.base}{_PREFIX}{self.project}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine, so that nothing crosses a network."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def agent_url(self, agent: str) -> str:
        """Return the address of one agent.

        Raises:
            EndpointError: If no agent can have that name.
        """
        if not is_agent_name(agent):
            raise EndpointError(f"{agent!r} can't be an agent's name: it takes {AGENT_NAME_RULE}")
        return f"{self.url}/agents/{agent}"

    def sessions_url(self, agent: str) -> str:
        """Return the address of an agent's sessions."""
        return f"{self.agent_url(agent)}/endpoint/sessions"

    def log_stream_url(self, agent: str, session_id: str) -> str:
        """Return the address of a session's log stream."""
        return f"{self.agent_url(agent)}/sessions/{quote(session_id, safe=':')}:logstream"

    def protocol_url(self, agent: str, protocol: str) -> str:
        """Return the address an agent is talked to at, without a query."""
        return f"{self.agent_url(agent)}/endpoint/protocols/{protocol}"

    def websocket_url(self, agent: str, query: Mapping[str, str] | None = None) -> str:
        """Return the ``ws(s)://`` address of an agent, with the API version and ``query``."""
        url = self.protocol_url(agent, "invocations_ws").replace("http", "ws", 1)
        return f"{url}?{urlencode({headers.QUERY_API_VERSION: API_VERSION, **(query or {})})}"


def agent_in(path: str) -> str | None:
    """Return the name of the agent an address of this module is about, if it is about one."""
    _, _, rest = path.partition("/agents/")
    return rest.partition("/")[0] or None


@dataclass(frozen=True, slots=True)
class AgentAddress:
    """An agent on one platform, and the session that is meant if the address names one."""

    endpoint: Endpoint
    agent: str
    session_id: str | None = None


def is_address(text: str) -> bool:
    """Tell an address from an agent's name."""
    return "://" in text


def parse_agent_address(text: str) -> AgentAddress:
    """Read an agent's address: what ``trunkline deploy`` prints, or Foundry's.

    Both of the contract's forms are read, with ``ws(s)`` or ``http(s)``, with or without what
    comes after the agent's name.

    Raises:
        EndpointError: If it is anything else.
    """
    rule = "an agent's address looks like wss://HOST/api/projects/PROJECT/agents/AGENT"
    parts = urlsplit(text.strip())
    query = parse_qs(parts.query)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    project, slash, rest = parts.path.partition("/agents/")
    agent = unquote(rest.partition("/")[0])
    if project == _PREFIX.rstrip("/") and rest.startswith("endpoint/"):
        # The dispatcher of the preview has both names in its query.
        project = _PREFIX + quote(query.get(headers.QUERY_PROJECT, [""])[0], safe="")
        agent = query.get(headers.QUERY_AGENT, [""])[0]
    if not slash or not is_agent_name(agent):
        # The text isn't repeated: an address may carry a secret.
        raise EndpointError(f"the address names no agent; {rule}")
    endpoint = Endpoint.parse(urlunsplit((scheme, parts.netloc, project, "", "")))
    return AgentAddress(endpoint, agent, query.get(headers.QUERY_SESSION_ID, [None])[0])


def resolve_endpoint(given: str | None, env: Mapping[str, str]) -> Endpoint:
    """Return the endpoint that is ``given``, else the environment's, else the local one."""
    named = given or next((env[name] for name in ENDPOINT_VARIABLES if env.get(name)), None)
    return Endpoint.parse(named or DEFAULT_ENDPOINT)
