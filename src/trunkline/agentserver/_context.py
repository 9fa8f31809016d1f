"""Who is calling: what a handler, and everything it calls, can ask about the request it serves."""

import uuid
from collections.abc import Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from trunkline.protocol import headers
from trunkline.protocol.ids import is_session_id


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """The caller's identity as the platform states it; each part None when it states none."""

    call_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None

    def platform_headers(self) -> dict[str, str]:
        """Return the headers to send with calls to the platform's own services.

        The user's identity is never among them: the platform finds it by the call id.
        """
        return {headers.CALL_ID: self.call_id} if self.call_id else {}


_NOBODY = RequestContext()
_current: ContextVar[RequestContext] = ContextVar("trunkline_request_context", default=_NOBODY)


def get_request_context() -> RequestContext:
    """Return the context of the request being served; an empty one outside of any.

    Tasks started by a handler inherit it.
    """
    return _current.get()


def set_request_context(context: RequestContext) -> Token[RequestContext]:
    """Make ``context`` the one :func:`get_request_context` returns from here on."""
    return _current.set(context)


def reset_request_context(token: Token[RequestContext]) -> None:
    """Undo one :func:`set_request_context`."""
    _current.reset(token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the host found out about one request before its handler runs."""

    session_id: str
    user_id: str
    call_id: str
    invocation_id: str = ""

    def as_state(self) -> dict[str, str]:
        """Return what handlers find in ``request.state`` or ``websocket.state``."""
        state = {
            "session_id": self.session_id,
            "user_id": self.user_id,
            "call_id": self.call_id,
        }
        if self.invocation_id:
            state["invocation_id"] = self.invocation_id
        return state

    def as_context(self) -> RequestContext:
        """Return the same as a request context."""
        return RequestContext(
            call_id=self.call_id or None,
            user_id=self.user_id or None,
            session_id=self.session_id or None,
        )


def identify_post(request: HTTPConnection, configured_session: str) -> Identity:
    """Identify a new invocation. Missing or unusable ids are replaced by fresh ones."""
    # A caller who names a session wrongly gets a new one, never somebody else's.
    wanted = request.query_params.get(headers.QUERY_SESSION_ID) or configured_session
    invocation = request.headers.get(headers.INVOCATION_ID, "")
    return Identity(
        session_id=wanted if is_session_id(wanted) else new_id(),
        invocation_id=invocation if is_session_id(invocation) else new_id(),
        **_caller(request.headers),
    )


def identify_existing(request: HTTPConnection, configured_session: str) -> Identity:
    """Identify a request about an invocation that was made before, named in the path."""
    wanted = request.query_params.get(headers.QUERY_SESSION_ID) or configured_session
    return Identity(
        session_id=wanted if is_session_id(wanted) else "",
        invocation_id=request.path_params["invocation_id"],
        **_caller(request.headers),
    )


def identify_websocket(
    websocket: HTTPConnection, configured_session: str
) -> tuple[Identity, str, str]:
    """Identify a WebSocket.

    Returns:
        The identity; the session id for the close event, which a client never chooses; and
        the session the client asked for in the query, or empty.
    """
    wanted = websocket.query_params.get(headers.QUERY_SESSION_ID, "")
    if not is_session_id(wanted):
        wanted = ""
    own = configured_session if is_session_id(configured_session) else ""
    event_session = own or new_id()
    identity = Identity(session_id=own or wanted or event_session, **_caller(websocket.headers))
    return identity, event_session, wanted


def new_id() -> str:
    """Return an id nobody has had before."""
    return str(uuid.uuid4())


def _caller(received: Mapping[str, str]) -> dict[str, str]:
    return {
        "user_id": received.get(headers.USER_ID, ""),
        "call_id": received.get(headers.CALL_ID, ""),
    }
