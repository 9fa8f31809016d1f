"""The agent under test, and the two ways to have one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Generator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

from trunkline.agentserver import InvocationAgentServerHost
from trunkline.protocol import headers as names
from trunkline.testing._bench import Bench, Manners, check_seconds
from trunkline.testing._http import HttpCall, HttpRequest, encode_body
from trunkline.testing._server import Exchange
from trunkline.testing._websocket import ClientSocket, check_upgraded
from trunkline.testing._websocket_wire import WebSocketWire, handshake_headers
from trunkline.testing._wire import request_head

_WEBSOCKET_PATH = "/invocations_ws"


class RunningAgent:
    """An agent that serves the test. Made by :func:`running`."""

    def __init__(self, app: InvocationAgentServerHost, bench: Bench) -> None:
        self._app = app
        self._bench = bench

    @property
    def app(self) -> InvocationAgentServerHost:
        """What is tested."""
        return self._app

    @property
    def failures(self) -> list[BaseException]:
        """What the agent's own code raised and its host had to catch, oldest first."""
        return self._bench.failures

    # Time

    @property
    def elapsed_s(self) -> float:
        """How much of the agent's time has passed since it was started."""
        return self._bench.guest.clock.elapsed_s

    async def advance(self, seconds: float) -> None:
        """Let time pass for the agent, as fast as it can.

        Whatever is due meanwhile happens in its order, each thing with the time it was due at.
        When this returns, the agent has nothing more to do until more time passes or something
        comes from outside. ``advance(0)`` only lets it finish what it is at.

        Raises:
            RestlessError: If the agent doesn't come to rest.
        """
        check_seconds("seconds", seconds)
        await self._bench.guest.advance(seconds)

    # Stopping

    async def drain(self) -> None:
        """Tell the agent to stop, as SIGTERM does, and return when it has taken note.

        ``draining`` is set, ``/readiness`` answers 503, and what is open goes on until the time
        the host gives it has passed; see :meth:`advance`.
        """
        await self._bench.drain()

    async def stop(self) -> None:
        """Tell the agent to stop, and let as much time pass as that takes.

        Leaving :func:`running` does it, too. Twice is fine.

        Raises:
            RestlessError: If the agent doesn't end.
        """
        await self._bench.stop()

    # WebSockets

    def connect(  # noqa: PLR0913 - keyword-only, and each is optional
        self,
        path: str = _WEBSOCKET_PATH,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        call_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        answers_pings: bool = True,
    ) -> "Connecting":
        """Open a WebSocket: ``async with agent.connect() as ws``, or ``ws = await …``.

        Args:
            path: Where.
            session_id: The session asked for, in the query.
            user_id: Who is calling, in the header that the platform sets.
            call_id: The call's id, in the header that the platform sets.
            headers: Further headers.
            query: Further parts of the query.
            answers_pings: False for a client that doesn't answer.
        """
        target, fields = _addressed(path, session_id, user_id, call_id, headers, query)
        return Connecting(self, self._bench, target, fields, answers_pings=answers_pings)

    # HTTP

    def invoke(  # noqa: PLR0913 - keyword-only, and each is optional
        self,
        body: Any = b"",
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        call_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        within_s: float | None = None,
    ) -> HttpCall:
        """Make a ``POST /invocations``; await it, or ``async with`` to read as it comes.

        Args:
            body: Bytes, or text, or anything that JSON can say.
            session_id: The session asked for, in the query.
            user_id: Who is calling, in the header that the platform sets.
            call_id: The call's id, in the header that the platform sets.
            headers: Further headers.
            query: Further parts of the query.
            timeout_s: Seconds of real time to wait for each part of the answer.
            within_s: Seconds of the agent's time that may pass for each.
        """
        target, fields = _addressed("/invocations", session_id, user_id, call_id, headers, query)
        return self.request(
            "POST", target, body, headers=fields, timeout_s=timeout_s, within_s=within_s
        )

    def get_invocation(self, invocation_id: str, **options: Any) -> HttpCall:
        """Make a ``GET /invocations/{id}``; the options are those of :meth:`request`."""
        return self.request("GET", f"/invocations/{quote(invocation_id, safe='')}", **options)

    def cancel_invocation(self, invocation_id: str, body: Any = b"", **options: Any) -> HttpCall:
        """Make a ``POST /invocations/{id}/cancel``; the options are those of :meth:`request`."""
        path = f"/invocations/{quote(invocation_id, safe='')}/cancel"
        return self.request("POST", path, body, **options)

    def request(
        self,
        method: str,
        target: str,
        body: Any = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        within_s: float | None = None,
    ) -> HttpCall:
        """Make any HTTP request; see :meth:`invoke`.

        Args:
            method: As ``GET``.
            target: Path and query, as ``/readiness``.
            body: Bytes, or text, or anything that JSON can say.
            headers: Headers besides ``host`` and ``content-length``.
            timeout_s: Seconds of real time to wait for each part of the answer.
            within_s: Seconds of the agent's time that may pass for each.
        """
        data, fields = encode_body(body, headers or {})
        request = HttpRequest(method=method, target=target, body=data, headers=fields)
        return HttpCall(self._bench, request, timeout_s=timeout_s, within_s=within_s)


class WebSocketClient(ClientSocket):
    """A WebSocket to an agent under test; see there for what it can do."""

    def __init__(
        self, agent: RunningAgent, bench: Bench, wire: WebSocketWire, exchange: Exchange
    ) -> None:
        super().__init__(bench, wire, exchange)
        self._agent = agent

    @property
    def agent(self) -> RunningAgent:
        """The agent at the other end."""
        return self._agent


class Connecting:
    """A WebSocket about to be opened: enter it, or await it."""

    def __init__(
        self,
        agent: RunningAgent,
        bench: Bench,
        target: str,
        headers: Mapping[str, str],
        *,
        answers_pings: bool,
    ) -> None:
        self._agent = agent
        self._bench = bench
        self._head = request_head("GET", target, [*handshake_headers(), *headers.items()])
        self._answers_pings = answers_pings
        self._client: WebSocketClient | None = None

    def __await__(self) -> Generator[Any, None, WebSocketClient]:
        """Open it, and leave closing to the test, or to the agent's end."""
        return self._open().__await__()

    async def __aenter__(self) -> WebSocketClient:
        """Open it.

        Raises:
            UpgradeRefusedError: If the agent answers with something else than 101.
        """
        self._client = await self._open()
        return self._client

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close with 1000, if it is open; raise what the handler raised, if that is unknown."""
        assert self._client is not None
        if error is None:
            await self._client.leave()
        else:
            self._client.abandon()
            self._bench.note_failures(error)

    async def _open(self) -> WebSocketClient:
        wire = WebSocketWire(answers_pings=self._answers_pings)
        exchange = await self._bench.open(wire)
        wire.transport.write(self._head)
        try:
            await self._bench.wait(
                lambda: wire.is_open or wire.has_ended or wire.answer.is_whole,
                timeout_s=None,
                within_s=None,
                tell=lambda: ["the opening handshake was not answered"],
                exchange=exchange,
            )
            check_upgraded(wire)
        except BaseException:
            wire.transport.abort()
            raise
        return WebSocketClient(self._agent, self._bench, wire, exchange)


@contextlib.asynccontextmanager
async def running(
    app: InvocationAgentServerHost,
    *,
    timeout_s: float = 5.0,
    within_s: float = 0.0,
    raise_exceptions: bool = True,
    real_time: bool = False,
) -> AsyncIterator[RunningAgent]:
    """Run an agent for a test, without a network.

    ::

        async with running(app) as agent, agent.connect() as ws:
            ...

    The agent's startup is run before the block, its shutdown after it. Its time stands still
    but for what the test lets pass.

    Args:
        app: The agent.
        timeout_s: Seconds of real time after which waiting for the agent fails.
        within_s: Seconds of the agent's time that may pass, as fast as it can, while the test
            waits for something.
        raise_exceptions: Whether the test gets what the agent's code raised: from the call
            that first meets the consequence, or else from leaving the block.
        real_time: Whether the agent's time passes as the world's does.

    Raises:
        AgentStartError: If the agent's startup fails.
        RestlessError: On leaving, if the agent doesn't end.
    """
    if not isinstance(app, InvocationAgentServerHost):
        raise TypeError(f"an InvocationAgentServerHost is wanted, not {type(app).__name__}")
    check_asyncio()
    manners = Manners(
        timeout_s=timeout_s,
        within_s=within_s,
        raise_exceptions=raise_exceptions,
        real_time=real_time,
    )
    bench = Bench(app, manners)
    await bench.start()
    try:
        yield RunningAgent(app, bench)
    except BaseException as error:
        bench.note_failures(error)
        try:
            await bench.stop()
        except AssertionError as trouble:
            error.add_note(f"and then {trouble}")
        raise
    await bench.stop()
    bench.raise_rest()


@contextlib.asynccontextmanager
async def agent_client(  # noqa: PLR0913 - keyword-only: one line each of two other signatures
    app: InvocationAgentServerHost,
    path: str = _WEBSOCKET_PATH,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    call_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    answers_pings: bool = True,
    timeout_s: float = 5.0,
    within_s: float = 0.0,
    raise_exceptions: bool = True,
    real_time: bool = False,
) -> AsyncIterator[WebSocketClient]:
    """Run an agent for a test, with one WebSocket to it.

    ::

        async with agent_client(app) as ws:
            ...

    The arguments are those of :func:`running` and of :meth:`RunningAgent.connect`; the agent
    is ``ws.agent``.
    """
    async with running(
        app,
        timeout_s=timeout_s,
        within_s=within_s,
        raise_exceptions=raise_exceptions,
        real_time=real_time,
    ) as agent:
        async with agent.connect(
            path,
            session_id=session_id,
            user_id=user_id,
            call_id=call_id,
            headers=headers,
            query=query,
            answers_pings=answers_pings,
        ) as ws:
            yield ws


def check_asyncio() -> None:
    """Refuse a test that doesn't run on asyncio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "trunkline.testing runs agents on asyncio, and this test runs on something else "
            "(with anyio's plugin: let the fixture anyio_backend return 'asyncio')"
        ) from None


def _addressed(
    path: str,
    session_id: str | None,
    user_id: str | None,
    call_id: str | None,
    headers: Mapping[str, str] | None,
    query: Mapping[str, str] | None,
) -> tuple[str, dict[str, str]]:
    """Return the target and the headers of a request."""
    asked = dict(query or {})
    if session_id is not None:
        asked[names.QUERY_SESSION_ID] = session_id
    fields = dict(headers or {})
    if user_id is not None:
        fields[names.USER_ID] = user_id
    if call_id is not None:
        fields[names.CALL_ID] = call_id
    mark = "&" if "?" in path else "?"
    return (f"{path}{mark}{urlencode(asked)}" if asked else path), fields
