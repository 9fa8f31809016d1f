"""Asks the platform whatever its caller wants, while it answers a request, from where it is.

The input of a request is JSON: ``send``, a list of lists of texts, each one connection's bytes in
the parts they are sent in, with CALL for the call's id; ``hold``, whether to wait for a file
``go`` in its home first. The answer's text is JSON: what came on each connection, what the id is,
and where the platform is said to be.
"""

import asyncio
import json
import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.agentserver import InvocationAgentServerHost

ENDPOINT = os.environ["FOUNDRY_PROJECT_ENDPOINT"]
HOME = Path.home()


async def ask(parts: list[str], call_id: str) -> str:
    where = urlsplit(ENDPOINT)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        async with asyncio.timeout(30):
            for part in parts:
                writer.write(part.replace("CALL", call_id).encode("latin-1"))
                await writer.drain()
            return (await reader.read()).decode("latin-1")
    except (ConnectionError, TimeoutError) as error:
        return type(error).__name__
    finally:
        writer.close()


async def respond(request: Request) -> Response:
    wanted = json.loads((await request.json())["input"])
    call_id = request.headers["x-agent-foundry-call-id"]
    (HOME / "call").write_text(call_id)
    while wanted.get("hold") and not (HOME / "go").exists():  # noqa: ASYNC110 - a file
        await asyncio.sleep(0.02)
    answers = await asyncio.gather(*(ask(parts, call_id) for parts in wanted.get("send", [])))
    said: dict[str, Any] = {"answers": answers, "call_id": call_id, "endpoint": ENDPOINT}
    part = {"type": "output_text", "text": json.dumps(said), "annotations": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}
    response = f"resp_{secrets.token_hex(8)}"
    return JSONResponse({"id": response, "object": "response", "output": [message]})


app = InvocationAgentServerHost(routes=[Route("/responses", respond, methods=["POST"])])


if __name__ == "__main__":
    app.run()
