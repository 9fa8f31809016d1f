"""Serves the page, and gets its tickets: what your own server would do for its signed-in users.

python samples/webrtc-signalling/page/serve.py [--port 8090]
"""

import argparse
import os
import secrets
from pathlib import Path

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from trunkline.auth.local import local_token

HERE = Path(__file__).resolve().parent
AGENT = "webrtc"
PROJECT = os.environ.get("TRUNKLINE_ENDPOINT", "http://127.0.0.1:8080/api/projects/default")


async def ticket(request: Request) -> Response:
    """Let the page connect once, to a session of its own."""
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return Response(status_code=403)
    token = os.environ.get("TRUNKLINE_TOKEN") or local_token()
    session_id = secrets.token_hex(16)
    wanted = {"agent_session_id": session_id, "origin": request.headers.get("origin")}
    async with httpx2.AsyncClient(trust_env=False) as http:
        made = await http.post(
            f"{PROJECT}/agents/{AGENT}/endpoint/tickets?api-version=v1",
            json={name: value for name, value in wanted.items() if value},
            headers={"authorization": f"Bearer {token}"},
        )
    if made.is_error:
        return Response(made.content, made.status_code, media_type="application/json")
    url = (
        f"{PROJECT.replace('http', 'ws', 1)}/agents/{AGENT}/endpoint/protocols/invocations_ws"
        f"?api-version=v1&agent_session_id={session_id}"
    )
    return JSONResponse({"url": url, "ticket": made.json()["ticket"]})


app = Starlette(
    routes=[
        Route("/ticket", ticket, methods=["POST"]),
        Mount("/", StaticFiles(directory=HERE, html=True)),
    ]
)

if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, default=8090)
    uvicorn.run(app, host="127.0.0.1", port=options.parse_args().port)
