"""The console over HTTP: its files, and the few requests that sign a page in and out."""

from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from trunkline.aio.threads import in_thread
from trunkline.console.pages import HEADERS, INDEX, load_pages
from trunkline.console.provider import PREFIX, Answer, ProviderSignIn
from trunkline.console.signin import Access, SignIns
from trunkline.protocol.errors import (
    AuthenticationError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
)
from trunkline.web.body import json_object

_OURS = frozenset({"same-origin", "none"})


class Console:
    """What is under ``/console``."""

    def __init__(self, sign_ins: SignIns, provider: ProviderSignIn | None = None) -> None:
        """Read the files.

        Args:
            sign_ins: Links, and who has followed one.
            provider: Whom people sign in with, if there is one.
        """
        self._sign_ins = sign_ins
        self._provider = provider
        self._pages = load_pages()

    def routes(self) -> list[Route]:
        return [
            Route("/console", self.redirect, methods=["GET"]),
            Route("/console/sign-in", self.ways, methods=["GET"]),
            Route("/console/sign-in", self.sign_in, methods=["POST"]),
            Route("/console/renew", self.renew, methods=["POST"]),
            Route("/console/sign-out", self.sign_out, methods=["POST"]),
            Route("/console/{path:path}", self.page, methods=["GET"]),
        ]

    async def redirect(self, _: Request) -> Response:
        return RedirectResponse("/console/", 308)

    async def page(self, request: Request) -> Response:
        page = self._pages.get(request.path_params["path"] or INDEX)
        if page is None:
            raise NotFoundError(f"the console has no {request.path_params['path'][:128]!r}")
        headers = {**HEADERS, "etag": page.etag}
        if page.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(page.body, headers=headers, media_type=page.media_type)

    async def ways(self, _: Request) -> Response:
        """Tell how one may sign in."""
        provider = None if self._provider is None else await self._provider.invitation()
        body = {"links": self._sign_ins.are_taken, "provider": provider}
        return JSONResponse(body, headers={"cache-control": "no-store"})

    async def sign_in(self, request: Request) -> Response:
        body = await _body(request)
        if "code" not in body:
            # It looks at files, as renewing and signing out do.
            return _answer(await in_thread(self._sign_ins.redeem, _text(body, "key")))
        names = ("code", "verifier", "nonce", "redirect_uri")
        answer = Answer(**{name: _text(body, name) for name in names})
        place = urlsplit(answer.redirect_uri)
        if place.netloc != request.headers.get("host") or place.path != "/console/":
            raise InvalidRequestError(
                "redirect_uri must be the console's own address", param="redirect_uri"
            )
        return _answer(await self._asked_provider().redeem(answer))

    async def renew(self, request: Request) -> Response:
        renewal = _text(await _body(request), "renewal")
        if renewal.startswith(PREFIX):
            return _answer(await self._asked_provider().renew(renewal))
        return _answer(await in_thread(self._sign_ins.renew, renewal))

    async def sign_out(self, request: Request) -> Response:
        renewal = _text(await _body(request), "renewal")
        if not renewal.startswith(PREFIX):
            await in_thread(self._sign_ins.forget, renewal)
        elif self._provider is not None:
            await self._provider.forget(renewal)
        return Response(status_code=204)

    def _asked_provider(self) -> ProviderSignIn:
        if self._provider is None:
            raise AuthenticationError(
                "nobody signs in with a provider here (TRUNKLINE_CONSOLE_ISSUER)"
            )
        return self._provider


def _answer(access: Access) -> Response:
    body = {
        "user": access.user,
        "token": access.token,
        "expires_in": access.expires_in_s,
        "renewal": access.renewal,
    }
    return JSONResponse(body, headers={"cache-control": "no-store"})


async def _body(request: Request) -> dict[str, Any]:
    _refuse_other_sites(request)
    # A page of another site can send a form, and not JSON without asking first.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise InvalidRequestError("the body must be sent as application/json")
    return await json_object(request)


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(f"the body must have a text called {name}", param=name)
    return value


def _refuse_other_sites(request: Request) -> None:
    origin = request.headers.get("origin")
    is_ours = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not is_ours or request.headers.get("sec-fetch-site", "none") not in _OURS:
        raise ForbiddenError("pages of other sites can't sign in to the console")
