"""The ``responses`` protocol: passed through to the agent, and remembered per conversation.

The agent gets each request as it was sent. What is said and answered is kept by the platform
if the request names a conversation, and a conversation's turns go to one session.
"""

import json
import logging
import secrets
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from trunkline.auth import noted
from trunkline.auth.caller import Caller
from trunkline.auth.grants import Permission
from trunkline.gateway import routes
from trunkline.gateway.forwarding import PassedThrough, agent_headers
from trunkline.gateway.leases import Lease
from trunkline.gateway.reach import reach
from trunkline.gateway.responses import CLIENT_CLOSED_REQUEST
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.streaming import Answer, Call
from trunkline.protocol import headers
from trunkline.protocol.errors import (
    ConversationNotFoundError,
    InvalidRequestError,
    ResponseNotFoundError,
)
from trunkline.protocol.ids import (
    SESSION_ID_RULE,
    AgentName,
    ProjectName,
    SessionId,
    SessionKey,
    is_session_id,
)
from trunkline.protocol.response_items import (
    ResponseReader,
    input_items,
    is_conversation_id,
    is_item_id,
    output_items,
    response_in,
)
from trunkline.sessions.calls import Calls
from trunkline.sessions.directory import new_session_id
from trunkline.sessions.ownership import owner_with
from trunkline.store.interface import ConversationStore, Store
from trunkline.store.records import ConversationKey, ResponseRecord
from trunkline.web.body import limited, parse_json_object

_log = logging.getLogger("trunkline.gateway")
_PREFIX = "/api/projects/{project}/agents/{agent}/endpoint/protocols/openai"
_PROTOCOL = "responses"
_FINISHED = frozenset({"completed", "incomplete"})


class Responses:
    """Requests for responses, under both spellings of their path."""

    def __init__(self, services: GatewayServices, *, store: Store, calls: Calls) -> None:
        self._services = services
        self._store = store
        self._calls = calls

    def routes(self) -> list[Route]:
        """Return the routes to serve."""
        found = []
        for spelling in ("responses", "v1/responses"):
            path = f"{_PREFIX}/{spelling}"
            one = f"{path}/{{response}}"
            found += [
                Route(path, self.create_response, methods=["POST"]),
                Route(one, self.forward_response, methods=["GET", "DELETE"]),
                Route(f"{one}/cancel", self.forward_response, methods=["POST"]),
                Route(f"{one}/input_items", self.forward_response, methods=["GET"]),
            ]
        return found

    async def create_response(self, request: Request) -> Response:
        """Run the agent's ``POST /responses``."""
        caller, project, agent = await self._admit(request)
        owner = await owner_with(self._store, project, agent, caller)
        most = self._services.settings.max_responses_body_bytes
        body = request.state.body = await limited(request, most).body()
        turn = await self._turn(parse_json_object(body, "the body"), owner, project, agent)
        noted.session_is(turn.session.session_id)
        named = agent_headers(request, caller, self._services)
        # What passes by is read, so it must not be compressed.
        named["accept-encoding"] = "identity"
        call = Call(
            request, named, _target(request, "/responses"), body, sweep=self._services.sweep
        )
        recorder = _Recorder(turn, most, self._store)
        call_id = named[headers.CALL_ID]
        self._calls.open(call_id, owner, turn.session)
        try:
            lease, answer = await reach(self._services, turn.session, caller, _PROTOCOL, call.send)
        except ClientDisconnect:
            self._calls.close(call_id)
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        except BaseException:
            self._calls.close(call_id)
            raise
        recorder.begin(answer)
        return _Recorded(call, answer, lease, recorder, on_done=lambda: self._calls.close(call_id))

    async def forward_response(self, request: Request) -> Response:
        """Ask the session a response came from about it."""
        caller, project, agent = await self._admit(request)
        owner = await owner_with(self._store, project, agent, caller)
        response_id = request.path_params["response"]
        found = None
        if is_item_id(response_id):
            found = await self._store.find_response(project, agent, response_id)
        if found is None or found.owner != owner:
            raise ResponseNotFoundError(f"agent {agent!r} gave you no response of that id")
        tail: str = request.scope["path"].rpartition("/responses/")[2]
        call = Call(
            request,
            agent_headers(request, caller, self._services),
            _target(request, f"/responses/{tail}"),
        )
        key = SessionKey(project, agent, found.session_id)
        noted.session_is(key.session_id)
        try:
            lease, answer = await reach(self._services, key, caller, _PROTOCOL, call.send)
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        return PassedThrough(call, answer, lease)

    async def _admit(self, request: Request) -> tuple[Caller, ProjectName, AgentName]:
        caller = await self._services.admission.admit(request.headers.get)
        routes.check_api_version(request.query_params.get(headers.QUERY_API_VERSION))
        project = self._services.projects.get(request.path_params["project"])
        agent = routes.parse_agent(request.path_params["agent"])
        caller.require(Permission.USE, project, agent)
        return caller, project, agent

    async def _turn(
        self, body: dict[str, Any], owner: str, project: ProjectName, agent: AgentName
    ) -> "_Turn":
        conversation = await self._conversation(body, owner, project, agent)
        session_id = _session_in(body)
        if session_id is None and conversation is not None:
            session_id = conversation[1]
        previous = body.get("previous_response_id")
        if session_id is None and isinstance(previous, str) and is_item_id(previous):
            found = await self._store.find_response(project, agent, previous)
            if found is not None and found.owner == owner:
                session_id = found.session_id
        return _Turn(
            SessionKey(project, agent, session_id or new_session_id()),
            owner,
            conversation[0] if conversation is not None else None,
            input_items(body.get("input"), lambda: new_id("msg"), param="input"),
        )

    async def _conversation(
        self, body: dict[str, Any], owner: str, project: ProjectName, agent: AgentName
    ) -> tuple[ConversationKey, SessionId | None] | None:
        given = body.get("conversation")
        if given is None:
            return None
        if isinstance(given, dict):
            given = given.get("id")
        if not isinstance(given, str) or not is_conversation_id(given):
            raise InvalidRequestError(
                'conversation must be a conversation\'s id, or such as {"id": "conv_1"}',
                param="conversation",
            )
        key = ConversationKey(project, agent, given)
        record = await self._store.find_conversation(key)
        if record is None or record.owner != owner:
            raise ConversationNotFoundError(f"you have no conversation {given!r} with {agent!r}")
        return key, record.session_id


def new_id(prefix: str) -> str:
    """Return an id such as ``msg_`` and 48 hex digits."""
    return f"{prefix}_{secrets.token_hex(24)}"


class _Turn:
    """One request and what is to be remembered of it."""

    def __init__(
        self,
        session: SessionKey,
        owner: str,
        conversation: ConversationKey | None,
        said: list[dict[str, Any]],
    ) -> None:
        self.session = session
        self.owner = owner
        self.conversation = conversation
        self.said = said


class _Recorder:
    """Keeps what a turn brought."""

    def __init__(self, turn: _Turn, max_bytes: int, store: ConversationStore) -> None:
        self._turn = turn
        self._max_bytes = max_bytes
        self._store = store
        self._reader: ResponseReader | None = None

    def begin(self, answer: Answer) -> None:
        """Look at the answer's head: only a success is worth keeping."""
        if answer.answer.status < 300:
            content_type = answer.answer.headers.get("content-type", "")
            self._reader = ResponseReader(content_type, self._max_bytes)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the answer."""
        if self._reader is not None:
            self._reader.feed(chunk)

    async def finish(self) -> None:
        """Keep the response's origin, and its turn if it belongs to a conversation."""
        document = self._reader.document if self._reader is not None else None
        if document is None:
            return
        try:
            response = response_in(json.loads(document))
        except (ValueError, RecursionError):
            return
        turn, key = self._turn, self._turn.session
        if response is None:
            return
        if is_item_id(response["id"]):
            await self._store.add_response(
                ResponseRecord(
                    project=key.project,
                    agent=key.agent,
                    response_id=response["id"],
                    owner=turn.owner,
                    session_id=key.session_id,
                )
            )
        if turn.conversation is not None and response.get("status", "completed") in _FINISHED:
            items = [*turn.said, *output_items(response, lambda: new_id("msg"))]
            await self._store.add_items(turn.conversation, items)
            await self._store.update_conversation(turn.conversation, session_id=key.session_id)


class _Recorded(PassedThrough):
    """An answer that is read as it passes by."""

    def __init__(
        self, call: Call, answer: Answer, lease: Lease, recorder: _Recorder, *, on_done: Any
    ) -> None:
        super().__init__(call, answer, lease, on_chunk=recorder.feed, on_end=recorder.finish)
        self._on_done = on_done

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_done()


def _session_in(body: dict[str, Any]) -> SessionId | None:
    # Two of the contract's clients spell it differently.
    for name in (headers.QUERY_SESSION_ID, "session_id"):
        given = body.get(name)
        if given is None or given == "":
            continue
        if not isinstance(given, str) or not is_session_id(given):
            raise InvalidRequestError(f"{name} must be {SESSION_ID_RULE}", param=name)
        return SessionId(given)
    return None


def _target(request: Request, path: str) -> str:
    query = routes.without_consumed(request.scope["query_string"].decode("latin-1"))
    return path + ("?" + query if query else "")
