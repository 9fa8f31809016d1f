"""The console over HTTP: its files, and the few requests that sign a page in and out."""

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from trunkline.console.pages import HEADERS, INDEX, load_pages
from trunkline.console.signin import Access, SignIns
from trunkline.protocol.errors import ForbiddenError, InvalidRequestError, NotFoundError
from trunkline.web.body import json_object

_T = TypeVar("_T")
_OURS = frozenset({"same-origin", "none"})


class Console:
    """What is under ``/console``."""

    def __init__(self, sign_ins: SignIns) -> None:
        """Read the files."""
        self._sign_ins = sign_ins
        self._pages = load_pages()

    def routes(self) -> list[Route]:
        return [
            Route("/console", self.redirect, methods=["GET"]),
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

    async def sign_in(self, request: Request) -> Response:
        return _answer(await _with_secret(request, "key", self._sign_ins.redeem))

    async def renew(self, request: Request) -> Response:
        return _answer(await _with_secret(request, "renewal", self._sign_ins.renew))

    async def sign_out(self, request: Request) -> Response:
        await _with_secret(request, "renewal", self._sign_ins.forget)
        return Response(status_code=204)


def _answer(access: Access) -> Response:
    body = {
        "user": access.user,
        "token": access.token,
        "expires_in": access.expires_in_s,
        "renewal": access.renewal,
    }
    return JSONResponse(body, headers={"cache-control": "no-store"})


async def _with_secret(request: Request, name: str, use: Callable[[str], _T]) -> _T:
    _refuse_other_sites(request)
    # A page of another site can send a form, and not JSON without asking first.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise InvalidRequestError("the body must be sent as application/json")
    secret = (await json_object(request)).get(name)
    if not isinstance(secret, str) or not secret:
        raise InvalidRequestError(f"the body must have a text called {name}", param=name)
    # It looks at files.
    return await run_in_threadpool(use, secret)


def _refuse_other_sites(request: Request) -> None:
    origin = request.headers.get("origin")
    is_ours = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not is_ours or request.headers.get("sec-fetch-site", "none") not in _OURS:
        raise ForbiddenError("pages of other sites can't sign in to the console")
