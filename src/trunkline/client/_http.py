"""The door to HTTP: requests with a token, and every failure as one of this package's errors."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from trunkline.client._endpoint import API_VERSION, Endpoint, InsecureEndpointError, agent_in
from trunkline.client._errors import BadAnswerError, RefusedError, UnreachableError
from trunkline.client._tokens import TokenSource, get_token, prepared
from trunkline.protocol import headers
from trunkline.protocol.errors import InvalidRequestError

USER_AGENT = "trunkline-client"
CONNECT_TIMEOUT_S = 10.0
#: Control operations answer at once; the longest is the upload of a zip.
READ_TIMEOUT_S = 120.0
_MAX_ERROR_BYTES = 64 * 1024

Answer = httpx2.Response


class Http:
    """One connection pool to one project's platform. Concurrent use is fine."""

    def __init__(
        self,
        endpoint: Endpoint,
        token: TokenSource | None,
        *,
        allow_insecure_http: bool = False,
        user_identity: str | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._token = prepared(token)
        self._allow_insecure_http = allow_insecure_http
        self._on_behalf = _on_behalf(user_identity)
        # A proxy can't reach this machine's own addresses, whatever the environment says.
        self._client = httpx2.AsyncClient(
            transport=transport,
            trust_env=not endpoint.is_loopback,
            # Whom to trust is the environment's to say on this machine, too.
            verify=httpx2.create_ssl_context(trust_env=True),
            follow_redirects=False,
            headers={"user-agent": USER_AGENT},
            timeout=httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        )

    async def authorization(self) -> dict[str, str]:
        """Return the headers that say who is calling, and for whom.

        Raises:
            InsecureEndpointError: If the token would be readable on the way.
            MissingTokenError: If there is none.
        """
        endpoint = self.endpoint
        if endpoint.scheme == "http" and not (endpoint.is_loopback or self._allow_insecure_http):
            raise InsecureEndpointError(endpoint)
        return {
            "authorization": f"Bearer {await get_token(self._token)}",
            **self._on_behalf,
        }

    async def get(self, url: str, query: Mapping[str, str] | None = None) -> Answer:
        """Get one document.

        Raises:
            RefusedError: If the platform refuses.
            UnreachableError: If it isn't there.
        """
        return await self.request("GET", url, query)

    async def request(
        self,
        method: str,
        url: str,
        query: Mapping[str, str] | None = None,
        **content: Any,
    ) -> Answer:
        """Send one request and return the whole answer; raises as :meth:`get` does."""
        async with self.stream(method, url, query, **content) as answer:
            await self.read(answer)
            return answer

    async def read(self, answer: Answer) -> bytes:
        """Read the rest of an answer."""
        try:
            return await answer.aread()
        except httpx2.RequestError as exc:
            raise self._unreachable(exc, is_connected=True) from exc

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        query: Mapping[str, str] | None = None,
        *,
        read_timeout_s: float | None = READ_TIMEOUT_S,
        header: Mapping[str, str] | None = None,
        **content: Any,
    ) -> AsyncIterator[Answer]:
        """Send one request and give the answer once its head is there.

        Errors while reading its body are the reader's: use :meth:`chunks` or :meth:`read`.
        """
        request = self._client.build_request(
            method,
            url,
            params={headers.QUERY_API_VERSION: API_VERSION, **(query or {})},
            headers={**(header or {}), **await self.authorization()},
            timeout=httpx2.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S),
            **content,
        )
        try:
            answer = await self._client.send(request, stream=True)
        except httpx2.RequestError as exc:
            is_connected = not isinstance(exc, httpx2.ConnectError | httpx2.ConnectTimeout)
            raise self._unreachable(exc, is_connected=is_connected) from exc
        try:
            if answer.status_code >= 300:
                raise await self._refused(answer)
            yield answer
        finally:
            await answer.aclose()

    async def chunks(self, answer: Answer) -> AsyncIterator[bytes]:
        """Yield an answer's body as it comes."""
        try:
            async for chunk in answer.aiter_bytes():
                yield chunk
        except httpx2.RequestError as exc:
            raise self._unreachable(exc, is_connected=True) from exc

    async def aclose(self) -> None:
        """Close the pool. Twice is fine."""
        await self._client.aclose()

    async def _refused(self, answer: Answer) -> RefusedError:
        body = b""
        async for chunk in self.chunks(answer):
            body += chunk
            if len(body) >= _MAX_ERROR_BYTES:
                break
        refused = RefusedError.from_answer(answer.status_code, answer.headers, body)
        refused.agent = agent_in(answer.url.path)
        return refused

    def _unreachable(self, exc: Exception, *, is_connected: bool) -> UnreachableError:
        # The text of a refused connection adds nothing, that of a failed name or TLS does.
        reason = str(exc) or type(exc).__name__
        if isinstance(exc, httpx2.ConnectError) and "attempts failed" in reason:
            reason = ""
        return UnreachableError(self.endpoint.base, reason, is_connected=is_connected)


def _on_behalf(user_identity: str | None) -> dict[str, str]:
    if user_identity is None:
        return {}
    if not user_identity or not user_identity.isascii() or not user_identity.isprintable():
        raise InvalidRequestError(
            "a user's identity is sent in a header: it has to be printable ASCII, and not empty"
        )
    return {headers.USER_IDENTITY: user_identity}


def json_of(answer: Answer) -> dict[str, Any]:
    """Return an answer's JSON object.

    Raises:
        BadAnswerError: If it isn't one.
    """
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise BadAnswerError(f"{answer.url.copy_with(query=None)} didn't answer with a JSON object")
    return document
