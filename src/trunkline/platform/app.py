"""The platform's HTTP application: every route, and one shape for every error."""

import logging
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route

from trunkline.auth.issuer import DevelopmentIssuer
from trunkline.gateway.agent_door import NOT_FROM_A_SANDBOX
from trunkline.gateway.peers import Peers
from trunkline.gateway.responses import CLIENT_CLOSED_REQUEST, headers_for
from trunkline.platform.health import Health
from trunkline.platform.openapi import document
from trunkline.platform.request_id import RequestIds
from trunkline.protocol.errors import (
    INTERNAL_ERROR,
    ForbiddenError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    TrunklineError,
    envelope,
)
from trunkline.sessions.elsewhere import SessionElsewhereError
from trunkline.telemetry.metrics import CONTENT_TYPE, Metrics

_log = logging.getLogger("trunkline.http")
#: Answers to what an agent had better not have asked.
_FORBIDDEN = frozenset({401, 403, 405})


def build_app(
    routes: Sequence[BaseRoute],
    *,
    health: Health,
    metrics: Metrics,
    issuer: DevelopmentIssuer,
    peers: Peers,
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    """Return the application.

    Args:
        routes: The gateway's and the control plane's.
        health: What ``/healthz`` and ``/readyz`` say.
        metrics: What ``/metrics`` prints.
        issuer: Whose public keys are served.
        middleware: What stands before every request, behind what names it.
        peers: Whom to ask about sessions that don't run here.
    """

    async def alive(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(_: Request) -> Response:
        problem = await health.problem()
        if problem is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": problem}, 503)

    async def prometheus(_: Request) -> Response:
        await metrics.gather()
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    async def jwks(_: Request) -> Response:
        return JSONResponse(issuer.jwks(), headers={"cache-control": "max-age=300"})

    async def openapi(_: Request) -> Response:
        # The first time it has to be made, which takes a while.
        return Response(await run_in_threadpool(document.encoded), media_type="application/json")

    async def pass_on(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, SessionElsewhereError)
        try:
            return await peers.forward(request, exc)
        except TrunklineError as error:
            return _answer(error)

    return Starlette(
        routes=[
            Route("/healthz", alive),
            Route("/readyz", ready),
            Route("/metrics", prometheus),
            Route("/.well-known/jwks.json", jwks),
            Route("/openapi.json", openapi),
            *routes,
        ],
        middleware=[Middleware(RequestIds), *middleware],
        exception_handlers={
            SessionElsewhereError: pass_on,
            TrunklineError: _refuse,
            ClientDisconnect: _nobody_there,
            HTTPException: _refuse_http,
            Exception: _break,
        },
    )


def build_agent_app(routes: Sequence[BaseRoute]) -> Starlette:
    """Return what agents in sandboxes see of the platform, and nothing else is there to be found.

    Args:
        routes: What they reach.
    """
    app = Starlette(
        routes=routes,
        middleware=[Middleware(RequestIds)],
        exception_handlers={
            TrunklineError: _refuse_agent,
            ClientDisconnect: _nobody_there,
            HTTPException: _refuse_agent,
            Exception: _break,
        },
    )
    app.router.redirect_slashes = False
    return app


async def _refuse_agent(request: Request, exc: Exception) -> Response:
    error: TrunklineError
    match exc:
        case TrunklineError():
            error = exc
        case HTTPException(status_code=405):
            error = MethodNotAllowedError(NOT_FROM_A_SANDBOX, allowed=_methods_for(request))
        case _:
            error = ForbiddenError(NOT_FROM_A_SANDBOX)
    if error.status in _FORBIDDEN:
        request.state.refused(f"{request.method} {request.url.path[:256]}: {error.status}")
    return _answer(error)


def _answer(error: TrunklineError) -> Response:
    return JSONResponse(envelope(error), error.status, headers=dict(headers_for(error)))


async def _nobody_there(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _refuse(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, TrunklineError)
    return _answer(exc)


async def _refuse_http(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if exc.status_code == 404:
        return _answer(NotFoundError(f"nothing is at {request.url.path[:256]}"))
    if exc.status_code == 405:
        return _answer(
            MethodNotAllowedError(
                f"{request.method} isn't for this path", allowed=_methods_for(request)
            )
        )
    return _answer(InvalidRequestError(str(exc.detail)))


def _methods_for(request: Request) -> set[str]:
    # Starlette names those of the first route only, and each method has a route of its own.
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    path = next(r.path for r in routes if r.matches(request.scope)[0] is not Match.NONE)
    return {method for route in routes if route.path == path for method in route.methods or ()}


async def _break(_: Request, exc: Exception) -> Response:
    # Starlette raises it again after the answer, and uvicorn logs the traceback.
    return _answer(INTERNAL_ERROR)
