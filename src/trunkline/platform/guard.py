"""Stands before every HTTP request: how often it may come, for how long, and what is recorded."""

import asyncio
import logging
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trunkline.auth import noted
from trunkline.gateway.answering import Answering
from trunkline.gateway.peers import ADDRESS
from trunkline.gateway.requests import marks_in
from trunkline.gateway.responses import headers_for
from trunkline.gateway.services import GatewayServices
from trunkline.protocol.errors import RateLimitedError, TrunklineError, envelope
from trunkline.protocol.ids import AgentName, is_agent_name, is_session_id

_log = logging.getLogger("trunkline.http")
#: What is worth a line although it changes nothing: what was in somebody's session.
_READS: Final = frozenset({"stream_log", "download_file", "list_files", "stat_file"})
_REFUSALS: Final = frozenset({401, 403, 429})


class Guard:
    """ASGI middleware: rates by address, ends that come early, and the audit log."""

    def __init__(self, app: ASGIApp, *, services: GatewayServices) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return
        services, address = self._services, self._address_of(scope)
        note = noted.begin()
        answering = Answering(note, scope, services.projects)
        request_id = marks_in(scope).request_id
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answering.has_begun = True
            await send(message)

        async def refuse(error: TrunklineError) -> None:
            services.count_refusal(error)
            answer = JSONResponse(envelope(error), error.status, headers=_headers_of(error))
            await answer(scope, receive, watched)

        try:
            services.rates.failures_by_address.check(address)
            services.rates.calls_by_address.take(address)
        except RateLimitedError as error:
            await refuse(error)
        else:
            services.answering.add(answering)
            try:
                await self._app(scope, answering.receiving(receive), watched)
            except asyncio.CancelledError:
                if not answering.was_cut() or answering.error is None:
                    raise
                _log.info("cut off: %s: request_id=%s", answering.error, request_id)
                # With a part of the answer out, returning short of its end makes uvicorn close
                # the connection, so that the caller sees that it isn't whole.
                if status == 0:
                    await refuse(answering.error)
                else:
                    services.count_refusal(answering.error)
            except Exception:
                # Whoever stands around this answers it, with 500.
                self._note(scope, note, status or 500, address, request_id)
                raise
            finally:
                services.answering.discard(answering)
        self._note(scope, note, status, address, request_id)

    def _address_of(self, scope: Scope) -> str:
        peer = scope["client"][0] if scope.get("client") else ""
        # All of its lines: a proxy may add one of its own behind those that the client made up.
        forwarded = ",".join(Headers(scope=scope).getlist("x-forwarded-for"))
        address = self._services.limits.proxies.client_of(peer, forwarded)
        scope.setdefault("state", {})[ADDRESS] = address
        return address

    def _note(
        self, scope: Scope, note: noted.Note, status: int, address: str, request_id: str
    ) -> None:
        if status >= 500:
            self._count_failure(scope)
        if status == 401:
            self._services.rates.failures_by_address.count(address)
        self._record(scope, note, status, address, request_id)

    def _count_failure(self, scope: Scope) -> None:
        named = scope.get("path_params") or {}
        project, agent = self._services.projects.find(named.get("project")), named.get("agent")
        # Whatever a path has in the place of a name must not be counted one by one.
        if project is not None and agent is not None and is_agent_name(agent):
            self._services.errors.add(project, AgentName(agent))

    def _record(
        self, scope: Scope, note: noted.Note, status: int, address: str, request_id: str
    ) -> None:
        action = getattr(scope.get("endpoint"), "__name__", scope["method"].lower())
        is_read = scope["method"] in ("GET", "HEAD")
        if is_read and action not in _READS and status not in _REFUSALS:
            return
        named = scope.get("path_params") or {}
        agent, session_id = named.get("agent", ""), note.session_id or named.get("session", "")
        self._services.audit.add(
            action,
            status,
            # What can't be a name isn't one of anything: whoever is refused may have sent any text.
            place=(
                self._services.projects.find(named.get("project")),
                agent if is_agent_name(agent) else None,
                session_id if is_session_id(session_id) else None,
            ),
            caller=note.caller,
            address=address,
            request_id=request_id,
        )


def _headers_of(error: TrunklineError) -> dict[str, str]:
    given = dict(headers_for(error))
    if isinstance(error, RateLimitedError):
        # What waits on the connection behind it is of the same sender, and isn't read.
        given["connection"] = "close"
    return given
