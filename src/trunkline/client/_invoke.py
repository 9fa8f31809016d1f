"""One HTTP call to an agent, its answer read as it comes."""

from collections.abc import AsyncIterator

from trunkline.client._http import Answer, Http
from trunkline.protocol import headers


class Invocation:
    """The answer to one invocation.

    Attributes:
        session_id: The session that answered.
        invocation_id: The agent's id for the call, if it gave one.
        content_type: What the body is.
    """

    def __init__(self, http: Http, answer: Answer) -> None:
        self._http = http
        self._answer = answer
        self.status = answer.status_code
        self.session_id = answer.headers.get(headers.SESSION_ID)
        self.invocation_id = answer.headers.get(headers.INVOCATION_ID)
        self.request_id = answer.headers.get(headers.REQUEST_ID)
        #: The answer's headers, in lower case and in order.
        self.headers = [(name.lower(), value) for name, value in answer.headers.items()]
        self.content_type = answer.headers.get("content-type", "")

    async def read(self) -> bytes:
        """Return the whole body."""
        return await self._http.read(self._answer)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._http.chunks(self._answer)
