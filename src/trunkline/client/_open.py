"""One conversation with one agent, with nothing to set up before it."""

from collections.abc import Awaitable, Callable
from types import TracebackType

from trunkline import config
from trunkline.client._connect import Connecting
from trunkline.client._development import environment_token
from trunkline.client._endpoint import Endpoint, is_address, parse_agent_address, resolve_endpoint
from trunkline.client._frames import FrameTap
from trunkline.client._project import Project
from trunkline.client._resume import DEFAULT_BACKOFF, Backoff, ResumingConnection
from trunkline.client._tokens import TokenSource


class _OwnProject(Connecting[ResumingConnection]):
    """Closes the project the conversation was opened with."""

    def __init__(self, project: Project, dial: Callable[[], Awaitable[ResumingConnection]]) -> None:
        super().__init__(dial)
        self._project = project

    async def __aenter__(self) -> ResumingConnection:
        try:
            return await super().__aenter__()
        except BaseException:
            await self._project.aclose()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            await self._project.aclose()


def connect(  # noqa: PLR0913 - what there is to say of a conversation
    agent: str,
    *,
    session_id: str | None = None,
    token: TokenSource | None = None,
    endpoint: Endpoint | str | None = None,
    backoff: Backoff | None = DEFAULT_BACKOFF,
    allow_insecure_http: bool = False,
    tap: FrameTap | None = None,
) -> Connecting[ResumingConnection]:
    """Open a conversation with an agent: await it, or enter it with ``async with``.

    Args:
        agent: The agent's name, or its whole address as ``trunkline deploy`` prints it.
            Foundry's addresses are of the same form.
        session_id: The session to come back to, or to start under that id. Without one a
            session is started, and ``conversation.session_id`` tells its id.
        token: The bearer token, something to call for one before each connection, or a
            credential of ``azure-identity``. Else ``TRUNKLINE_TOKEN``; else, for a platform on
            this machine, a token of its development issuer.
        endpoint: The project's address, if ``agent`` is a name. Else ``TRUNKLINE_ENDPOINT``,
            ``FOUNDRY_PROJECT_ENDPOINT``, or the platform on this machine.
        backoff: How to come back to the session when the connection is lost; None not to.
        allow_insecure_http: Send the token over plain http to another machine, too.
        tap: Is told of every frame.

    Raises:
        RefusedError: If the upgrade is refused, with the platform's code and text.
        UnreachableError: If nothing answers.
        EndpointError: If an address can't be one.
    """
    env = config.environment()
    if is_address(agent):
        address = parse_agent_address(agent)
        where, agent, session_id = (
            address.endpoint,
            address.agent,
            session_id or address.session_id,
        )
    elif isinstance(endpoint, Endpoint):
        where = endpoint
    else:
        where = resolve_endpoint(endpoint, env)
    project = Project(
        where, token or environment_token(where, env), allow_insecure_http=allow_insecure_http
    )

    async def dial() -> ResumingConnection:
        return await project.converse(agent, session_id=session_id, backoff=backoff, tap=tap)

    return _OwnProject(project, dial)
