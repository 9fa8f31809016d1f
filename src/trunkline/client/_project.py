"""A project on a platform: its agents, their versions, sessions and logs, and talking to them."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote

import httpx2

from trunkline import config
from trunkline.client._access import ProjectAccess
from trunkline.client._code import DownloadedCode, download_code
from trunkline.client._connect import Connecting, Connection, dial
from trunkline.client._development import environment_token
from trunkline.client._endpoint import Endpoint, resolve_endpoint
from trunkline.client._errors import BadAnswerError
from trunkline.client._files import SessionFiles, session_url
from trunkline.client._frames import FrameTap
from trunkline.client._http import Http, json_of
from trunkline.client._invoke import Invocation
from trunkline.client._logs import LogQuery, LogStream
from trunkline.client._models import (
    Agent,
    ConnectionList,
    EndedConnection,
    SecretName,
    Session,
    Version,
)
from trunkline.client._pages import pages
from trunkline.client._resume import DEFAULT_BACKOFF, Backoff, ResumingConnection
from trunkline.client._tokens import TokenSource
from trunkline.protocol import headers
from trunkline.protocol.errors import TrunklineError

_HASH_BLOCK_BYTES = 1024 * 1024
#: A model may think for long before the first byte of its answer.
INVOKE_TIMEOUT_S = 1800.0
_FIRST_POLL_S = 0.1
_MAX_POLL_S = 2.0


class BuildFailedError(TrunklineError):
    """A version didn't become active.

    Attributes:
        version: The version as it stands.
    """

    code = "build_failed"

    def __init__(self, version: Version, why: str) -> None:
        super().__init__(f"version {version.version} of {version.name} {why}")
        self.version = version


class Project:
    """One project. Concurrent use is fine; close it, or use ``async with``.

    Every method may raise ``RefusedError`` (the platform said no), ``UnreachableError``
    (it isn't there) and ``InsecureEndpointError`` (a token would be readable on the way).
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        token: TokenSource | None = None,
        *,
        allow_insecure_http: bool = False,
        user_identity: str | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Describe the project; nothing is sent yet.

        Args:
            endpoint: Its address, ``https://HOST/api/projects/PROJECT``.
            token: The bearer token, something to call for one before each request, or a
                credential of ``azure-identity``.
            allow_insecure_http: Send the token over plain http to another machine, too.
            user_identity: For whom to act, where the token may; the platform refuses it to
                others. None for nobody but the caller.
            transport: How HTTP requests get there, for tests.

        Raises:
            InvalidRequestError: If the user's identity can't be sent in a header.
        """
        self.endpoint = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
        self._http = Http(
            self.endpoint,
            token,
            allow_insecure_http=allow_insecure_http,
            user_identity=user_identity,
            transport=transport,
        )

    @classmethod
    def from_environment(cls) -> "Project":
        """Return the project the environment names.

        ``TRUNKLINE_ENDPOINT`` or ``FOUNDRY_PROJECT_ENDPOINT``, else the one of a platform on
        this machine. The token is ``TRUNKLINE_TOKEN``; without it, a platform on this machine
        gets one of the development issuer in its state directory.
        """
        env = config.environment()
        endpoint = resolve_endpoint(None, env)
        return cls(endpoint, environment_token(endpoint, env))

    async def authorization(self) -> Mapping[str, str]:
        """Return the headers that say who calls, for whoever sends requests without this client.

        Raises:
            MissingTokenError: If there is no token.
        """
        return await self._http.authorization()

    def connect(
        self, agent: str, *, session_id: str | None = None, tap: FrameTap | None = None
    ) -> Connecting[Connection]:
        """Open a WebSocket to a session: await it, or enter it with ``async with``.

        Args:
            agent: The agent's name.
            session_id: The session to come back to, or to start under that id. Without one a
                session is started, and ``connection.session_id`` tells its id.
            tap: Is told of every frame.

        Raises:
            RefusedError: If the upgrade is refused, with the platform's code and text.
            UnreachableError: If nothing answers.
        """

        async def open_connection() -> Connection:
            authorization = await self._http.authorization()
            return await dial(self.endpoint, agent, session_id, authorization, tap)

        return Connecting(open_connection)

    def converse(
        self,
        agent: str,
        *,
        session_id: str | None = None,
        backoff: Backoff | None = DEFAULT_BACKOFF,
        tap: FrameTap | None = None,
    ) -> Connecting[ResumingConnection]:
        """Open a conversation that outlives its connection; raises as :meth:`connect` does.

        Args:
            agent: The agent's name.
            session_id: The session to come back to, or to start under that id.
            backoff: How to come back to the session when the connection is lost; None not to.
            tap: Is told of every frame, on every connection.
        """

        async def dial_session(sid: str | None) -> Connection:
            return await self.connect(agent, session_id=sid, tap=tap)

        async def open_conversation() -> ResumingConnection:
            return ResumingConnection(await dial_session(session_id), dial_session, backoff)

        return Connecting(open_conversation)

    @asynccontextmanager
    async def invoke(  # noqa: PLR0913 - what there is to say of a call
        self,
        agent: str,
        body: bytes,
        *,
        content_type: str = "application/octet-stream",
        session_id: str | None = None,
        timeout_s: float = INVOKE_TIMEOUT_S,
        protocol: str = "invocations",
        header: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Invocation]:
        """Call an agent once and give its answer, to be read as it comes.

        Args:
            agent: The agent's name.
            body: What to send.
            content_type: What the body is.
            session_id: The session to call.
            timeout_s: How long the agent may be silent.
            protocol: Where to: ``invocations``, ``openai/responses`` or ``openai/conversations``.
            header: Further headers; agents see those that begin with ``x-client-``.
        """
        query = {headers.QUERY_SESSION_ID: session_id} if session_id else {}
        async with self._http.stream(
            "POST",
            self.endpoint.protocol_url(agent, protocol),
            query,
            read_timeout_s=timeout_s,
            header={**(header or {}), "content-type": content_type},
            content=body,
        ) as answer:
            yield Invocation(self._http, answer)

    @asynccontextmanager
    async def get_invocation(
        self, agent: str, invocation_id: str, *, session_id: str | None = None
    ) -> AsyncIterator[Invocation]:
        """Ask an agent how an invocation it accepted is going, and give its answer.

        Args:
            agent: The agent's name.
            invocation_id: What the first answer's ``invocation_id`` said.
            session_id: The session it runs in, as the first answer said.
        """
        query = {headers.QUERY_SESSION_ID: session_id} if session_id else {}
        url = self.endpoint.protocol_url(agent, f"invocations/{quote(invocation_id, safe='')}")
        async with self._http.stream("GET", url, query) as answer:
            yield Invocation(self._http, answer)

    async def create_conversation(self, agent: str) -> str:
        """Begin a conversation of the ``responses`` protocol; return its id.

        Raises:
            BadAnswerError: If the platform doesn't name it.
        """
        url = self.endpoint.protocol_url(agent, "openai/conversations")
        made = json_of(await self._http.request("POST", url, json={})).get("id")
        if not isinstance(made, str) or not made:
            raise BadAnswerError("the platform made a conversation and didn't name it")
        return made

    async def list_agents(self) -> AsyncIterator[Agent]:
        """Yield the project's agents, newest first."""
        async for document in pages(self._http, f"{self.endpoint.url}/agents"):
            yield Agent.read(document)

    async def get_agent(self, agent: str) -> Agent:
        """Return one agent."""
        return Agent.read(json_of(await self._http.get(self.endpoint.agent_url(agent))))

    async def list_versions(self, agent: str) -> AsyncIterator[Version]:
        """Yield an agent's versions, newest first."""
        async for document in pages(self._http, f"{self.endpoint.agent_url(agent)}/versions"):
            yield Version.read(document)

    async def get_version(self, agent: str, version: str) -> Version:
        """Return one version."""
        return Version.read(json_of(await self._http.get(self._version_url(agent, version))))

    async def create_version(
        self, agent: str, description: Mapping[str, Any], archive: IO[bytes] | None = None
    ) -> Version:
        """Create a version of an agent; the agent is made if need be.

        Args:
            agent: The agent's name.
            description: The request's JSON: ``definition``, and optionally more.
            archive: The zip of the agent's code, open for reading at its start. None for an
                agent that is an image.

        Returns:
            The version, most likely still being built.
        """
        url = f"{self.endpoint.agent_url(agent)}/versions"
        if archive is None:
            answer = await self._http.request("POST", url, json=description)
        else:
            digest = await asyncio.to_thread(_sha256, archive)
            answer = await self._http.request(
                "POST",
                url,
                header={headers.CODE_SHA256: digest},
                files={
                    "metadata": (None, json.dumps(description), "application/json"),
                    "code": ("agent.zip", archive, "application/octet-stream"),
                },
            )
        return Version.read(json_of(answer))

    async def wait_until_active(
        self,
        version: Version,
        *,
        timeout_s: float,
        on_poll: Callable[[Version], None] = lambda _version: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> Version:
        """Poll a version until it is built.

        Raises:
            BuildFailedError: If it fails, goes away, or isn't active in time.
        """
        pause, waited = _FIRST_POLL_S, 0.0
        while version.is_building:
            on_poll(version)
            if waited >= timeout_s:
                raise BuildFailedError(version, f"isn't active after {timeout_s:.0f} s")
            await sleep(pause)
            waited += pause
            pause = min(pause * 1.5, _MAX_POLL_S)
            version = await self.get_version(version.name, version.version)
        if version.state != "active":
            said = ""
            if version.error is not None:
                said = f": {version.error.message or version.error.code}"
            raise BuildFailedError(version, f"couldn't be built{said}")
        return version

    async def get_build_log(self, agent: str, version: str) -> str:
        """Return what was printed while a version's environment was built."""
        answer = await self._http.get(f"{self._version_url(agent, version)}/buildlog")
        return answer.text

    async def download_code(
        self, agent: str, into: IO[bytes], *, version: str | None = None
    ) -> DownloadedCode:
        """Write the zip a version was made of to a file that is open here.

        Args:
            agent: The agent's name.
            into: Where to. After an error there may be part of it.
            version: Whose code; the newest version's if None.

        Raises:
            BadAnswerError: If what arrived isn't what the platform says it sent.
        """
        return await download_code(self._http, self.endpoint.agent_url(agent), version, into)

    async def list_sessions(self, agent: str) -> AsyncIterator[Session]:
        """Yield the caller's sessions with an agent, newest first."""
        async for document in pages(self._http, self.endpoint.sessions_url(agent)):
            yield Session.read(document)

    async def get_session(self, agent: str, session_id: str) -> Session:
        """Return one session."""
        url = session_url(self.endpoint.sessions_url(agent), session_id)
        return Session.read(json_of(await self._http.get(url)))

    async def list_connections(
        self, agent: str, session_id: str, *, limit: int = 20
    ) -> list[EndedConnection]:
        """Return how a session's last connections ended, the newest first.

        Args:
            agent: The agent's name.
            session_id: The session.
            limit: How many at the most; a platform gives at most 100.
        """
        url = f"{session_url(self.endpoint.sessions_url(agent), session_id)}/connections"
        return ConnectionList.read(json_of(await self._http.get(url, {"limit": str(limit)}))).data

    async def create_session(
        self, agent: str, *, session_id: str | None = None, version: str | None = None
    ) -> Session:
        """Make a session ahead of its first call.

        Args:
            agent: The agent's name.
            session_id: Its id; one is made up if None.
            version: The version it is bound to; the agent's endpoint decides if None.
        """
        body: dict[str, Any] = {}
        if session_id is not None:
            body["agent_session_id"] = session_id
        if version is not None:
            body["version_indicator"] = {"type": "version_ref", "agent_version": version}
        url = self.endpoint.sessions_url(agent)
        return Session.read(json_of(await self._http.request("POST", url, json=body)))

    async def stop_session(self, agent: str, session_id: str) -> None:
        """Stop what runs for a session; its files stay, and the next call starts it again."""
        url = session_url(self.endpoint.sessions_url(agent), session_id)
        await self._http.request("POST", f"{url}:stop")

    async def delete_session(self, agent: str, session_id: str) -> None:
        """Delete a session with its files."""
        url = session_url(self.endpoint.sessions_url(agent), session_id)
        await self._http.request("DELETE", url)

    async def set_secret(self, name: str, value: str) -> None:
        """Set one of the project's secrets, for sessions that start from then on."""
        await self._http.request("PUT", self._secret_url(name), json={"value": value})

    async def list_secrets(self) -> list[SecretName]:
        """Return the names of the project's secrets."""
        body = json_of(await self._http.get(f"{self.endpoint.url}/secrets"))
        return [SecretName.read(each) for each in body.get("data", ())]

    async def delete_secret(self, name: str) -> None:
        """Delete one of the project's secrets."""
        await self._http.request("DELETE", self._secret_url(name))

    def _secret_url(self, name: str) -> str:
        return f"{self.endpoint.url}/secrets/{quote(name, safe='')}"

    @property
    def access(self) -> ProjectAccess:
        """Who may come in: API keys, revocations and the audit log. For admins."""
        return ProjectAccess(self._http)

    async def update_agent(self, agent: str, changes: Mapping[str, Any]) -> Agent:
        """Change an agent's endpoint or card, by merge patch, and return it as it is then."""
        url = self.endpoint.agent_url(agent)
        return Agent.read(json_of(await self._http.request("PATCH", url, json=changes)))

    async def delete_agent(self, agent: str, *, force: bool = False) -> None:
        """Delete an agent with all its versions.

        Args:
            agent: The agent's name.
            force: Even if it has sessions, which end then.
        """
        query = {"force": "true"} if force else {}
        await self._http.request("DELETE", self.endpoint.agent_url(agent), query)

    async def delete_version(self, agent: str, version: str, *, force: bool = False) -> None:
        """Delete one version; ``force`` as in :meth:`delete_agent`."""
        query = {"force": "true"} if force else {}
        await self._http.request("DELETE", self._version_url(agent, version), query)

    def files(self, agent: str, session_id: str) -> SessionFiles:
        """Return a session's files, to be read and changed."""
        url = session_url(self.endpoint.sessions_url(agent), session_id)
        return SessionFiles(self._http, url)

    def log_stream(self, agent: str, session_id: str, query: LogQuery | None = None) -> LogStream:
        """Return a session's log, to be iterated."""
        url = self.endpoint.log_stream_url(agent, session_id)
        return LogStream(self._http, url, query or LogQuery())

    async def aclose(self) -> None:
        """Close the HTTP connections; WebSockets stay. Twice is fine."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _version_url(self, agent: str, version: str) -> str:
        return f"{self.endpoint.agent_url(agent)}/versions/{quote(version, safe='')}"


def _sha256(file: IO[bytes]) -> str:
    start = file.tell()
    digest = hashlib.sha256()
    while block := file.read(_HASH_BLOCK_BYTES):
        digest.update(block)
    file.seek(start)
    return digest.hexdigest()
