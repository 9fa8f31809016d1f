"""What an agent gets to see of an HTTP request, and its answer on the way back."""

from collections.abc import Callable, Coroutine
from typing import Any

from multidict import CIMultiDict
from starlette.requests import Request

from trunkline.auth.caller import Caller
from trunkline.gateway.leases import Lease
from trunkline.gateway.requests import MARKING, marks_in, new_call_id
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.streaming import Answer, Call, Streamed
from trunkline.protocol import headers
from trunkline.protocol.errors import InvalidRequestError

#: Headers that speak of a body, for requests that have none.
_OF_BODY = frozenset({"content-length", "content-type", "content-encoding"})


def agent_headers(request: Request, caller: Caller, services: GatewayServices) -> CIMultiDict[str]:
    """Return the headers the agent gets to see: some of the caller's, and the platform's own.

    Raises:
        InvalidRequestError: If one isn't text.
    """
    named: CIMultiDict[str] = CIMultiDict()
    dropped = MARKING | headers.nominated(",".join(request.headers.getlist("connection")))
    if request.method != "POST":
        dropped |= _OF_BODY
    for raw_name, raw_value in request.headers.raw:
        name = raw_name.decode("latin-1")
        if name in dropped or not headers.reaches_agent(name):
            continue
        try:
            named.add(name, raw_value.decode())
        except UnicodeDecodeError:
            raise InvalidRequestError(f"the header {name} isn't UTF-8", param=name) from None
    named[headers.USER_ID] = services.pseudonyms.of(caller.user)
    named[headers.CALL_ID] = new_call_id()
    named.update(marks_in(request.scope).headers())
    return named


class PassedThrough(Streamed):
    """An agent's answer as it comes, and what has to be given back when it is over."""

    def __init__(
        self,
        call: Call,
        agent: Answer,
        lease: Lease,
        *,
        on_chunk: Callable[[bytes], None] | None = None,
        on_end: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        super().__init__(
            call,
            agent,
            ours={headers.SESSION_ID: lease.key.session_id, headers.REQUEST_ID: call.request_id},
            what=f"session {lease.key}",
        )
        self._lease = lease
        self.on_chunk = on_chunk
        self.on_end = on_end

    def release(self) -> None:
        self._lease.release()
