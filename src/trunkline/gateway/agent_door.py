"""Answers agents in their sandboxes: the same front door, leading to very little.

What arrives is parsed once, by the parser that every client's requests go through, and what is
parsed is what is answered: nothing is written out again for another server to read differently.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from trunkline.gateway.door import FrontDoor
from trunkline.gateway.services import GatewayServices
from trunkline.protocol import headers
from trunkline.protocol.errors import ForbiddenError, TooManyConnectionsError
from trunkline.protocol.ids import SessionKey

#: What an agent is told that asks for more.
NOT_FROM_A_SANDBOX: Final = (
    "from its sandbox an agent reaches nothing of the platform but GET "
    ".../agents/AGENT/endpoint/protocols/openai/conversations/CONVERSATION, its /items and "
    f"/items/ITEM, of its own and with the {headers.CALL_ID} of a request that it is answering: "
    "it runs its author's code, and may do no more than answer"
)
_MAX_CONNECTIONS: Final = 32
#: Connections over the limit that are told so; those beyond are dropped without a word.
_TOLD_AT_ONCE: Final = 8


class AgentDoors:
    """The platform as sandboxes know it."""

    def __init__(self, app: ASGIApp, services: GatewayServices, *, port: int) -> None:
        """Prepare; nothing is answered before `open`.

        Args:
            app: Answers. Its requests' state has the ``session`` whose agent asks, and ``refused``,
                which is to be told what it asked for in vain.
            services: The gateway's; its limits of heads and time hold here, too.
            port: Where the platform listens.
        """
        self.port = port
        self._services = services
        self._is_open = asyncio.Event()
        self._config = Config(
            app,
            ws="none",
            lifespan="off",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            log_config=None,
        )

    def open(self) -> None:
        """Answer from here on."""
        self._is_open.set()

    async def opened(self) -> None:
        await self._is_open.wait()

    def keeper_for(self, key: SessionKey, tell: Callable[[str], None]) -> "AgentDoor":
        return AgentDoor(self._config, self._services, {"session": key, "refused": tell})


class AgentDoor:
    """One session's."""

    def __init__(
        self, config: Config, services: GatewayServices, app_state: dict[str, Any]
    ) -> None:
        self._config = config
        self._services = services
        self._app_state = app_state
        self._server_state = ServerState()

    def new_connection(self) -> asyncio.Protocol:
        return _AgentConnection(
            self._config, self._server_state, self._app_state, services=self._services
        )

    def finish(self) -> None:
        for connection in list(self._server_state.connections):
            connection.shutdown()

    def close(self) -> None:
        for connection in list(self._server_state.connections):
            connection.transport.abort()


class _AgentConnection(FrontDoor):
    """A connection from a sandbox. It counts among its session's, not among the clients'."""

    def _has_room(self) -> bool:
        return len(self.connections) <= _MAX_CONNECTIONS + _TOLD_AT_ONCE

    def _check_connection(self) -> None:
        if len(self.connections) > _MAX_CONNECTIONS:
            raise TooManyConnectionsError(
                f"an agent may have {_MAX_CONNECTIONS} connections to the platform at once"
            )

    def _check_caller(self) -> None:
        """Whoever asks is known: no address is kept out for what an agent does."""

    def _upgrade(self, rest: bytes) -> None:
        self.app_state["refused"](f"an upgrade of {self.url[:256].decode('latin-1')}")
        self._refuse(ForbiddenError(NOT_FROM_A_SANDBOX))
