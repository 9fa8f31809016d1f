"""Serves a page, and gets its tickets: what your own server would do for its signed-in users.

python samples/voice/page/serve.py [--port 8090] [--agent voice] [--page FOLDER]
"""

import argparse
import os
from pathlib import Path

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trunkline.auth.local import local_token

HERE = Path(__file__).resolve().parent
CLIENT = HERE.parents[2] / "clients" / "js" / "src"
PROJECT = os.environ.get("TRUNKLINE_ENDPOINT", "http://127.0.0.1:8080/api/projects/default")
HOST = PROJECT.partition("/api/")[0]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    f"frame-ancestors 'none'; connect-src 'self' {HOST} {HOST.replace('http', 'ws', 1)}"
)


class Policed:
    """Says in every answer what the page may do: nothing but what is here, and the platform."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def policed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"content-security-policy", POLICY.encode()))
            await send(message)

        await self._app(scope, receive, policed)


def application(agent: str, page: Path) -> Starlette:
    async def style(_request: Request) -> Response:
        return FileResponse(HERE / "page.css")

    async def about(_request: Request) -> Response:
        return JSONResponse({"endpoint": PROJECT, "agent": agent})

    async def ticket(request: Request) -> Response:
        """Let the page connect once, to the session it names."""
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return Response(status_code=403)
        token = os.environ.get("TRUNKLINE_TOKEN") or local_token()
        wanted = {
            "agent_session_id": request.query_params.get("session"),
            "origin": request.headers.get("origin"),
        }
        async with httpx2.AsyncClient(trust_env=False) as http:
            made = await http.post(
                f"{PROJECT}/agents/{agent}/endpoint/tickets?api-version=v1",
                json={name: value for name, value in wanted.items() if value},
                headers={"authorization": f"Bearer {token}"},
            )
        return Response(made.content, made.status_code, media_type="application/json")

    return Starlette(
        routes=[
            Route("/agent", about),
            Route("/ticket", ticket, methods=["POST"]),
            Route("/page.css", style),
            Mount("/client", StaticFiles(directory=CLIENT)),
            Mount("/", StaticFiles(directory=page, html=True)),
        ],
        middleware=[Middleware(Policed)],
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, default=8090)
    options.add_argument("--agent", default="voice")
    options.add_argument("--page", type=Path, default=HERE, help="another sample's page")
    given = options.parse_args()
    uvicorn.run(application(given.agent, given.page), host="127.0.0.1", port=given.port)
