"""Reads and writes files in its home, and answers responses from the conversation so far."""

import asyncio
import json
import os
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.websockets import WebSocket

from trunkline.agentserver import InvocationAgentServerHost

HOME = Path.home()


def said_before(call_id: str, conversation: str) -> list[str]:
    """Ask the platform what the user said in a conversation."""
    project = os.environ["FOUNDRY_PROJECT_ENDPOINT"]
    agent = os.environ["FOUNDRY_AGENT_NAME"]
    url = (
        f"{project}/agents/{agent}/endpoint/protocols/openai/conversations/{conversation}/items"
        "?api-version=v1&order=asc&limit=100"
    )
    request = urllib.request.Request(url, headers={"x-agent-foundry-call-id": call_id})
    with urllib.request.urlopen(request, timeout=10) as answer:
        items = json.load(answer)["data"]
    return [part["text"] for item in items if item["role"] == "user" for part in item["content"]]


def response_of(text: str, session_id: str, number: int) -> dict[str, Any]:
    return {
        "id": f"resp_{session_id}_{number}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "model": "none",
        "agent_session_id": session_id,
        "output": [
            {
                "type": "message",
                "id": f"msg_{session_id}_{number}",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": text, "annotations": []}],
            }
        ],
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
    }


async def respond(request: Request) -> Response:
    body = await request.json()
    conversation = body.get("conversation")
    if isinstance(conversation, dict):
        conversation = conversation["id"]
    before: list[str] = []
    if conversation is not None:
        call_id = request.headers["x-agent-foundry-call-id"]
        before = await asyncio.to_thread(said_before, call_id, conversation)
    counter = HOME / "turns"
    number = int(counter.read_text()) + 1 if counter.exists() else 1
    counter.write_text(str(number))
    session_id = os.environ["FOUNDRY_AGENT_SESSION_ID"]
    text = f"turn {number}, before: {', '.join(before) or 'nothing'}, now: {body['input']}"
    response = response_of(text, session_id, number)
    if not body.get("stream"):
        return JSONResponse(response)

    async def events() -> AsyncIterator[str]:
        started = {**response, "status": "in_progress", "output": []}
        item = response["output"][0]
        for sequence, event in enumerate(
            [
                {"type": "response.created", "response": started},
                {"type": "response.output_text.delta", "item_id": item["id"], "output_index": 0,
                 "content_index": 0, "delta": text, "logprobs": []},
                {"type": "response.completed", "response": response},
            ]
        ):  # fmt: skip
            event["sequence_number"] = sequence
            yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def find_response(request: Request) -> Response:
    return JSONResponse({**response_of("again", "s", 0), "id": request.path_params["response"]})


app = InvocationAgentServerHost(
    routes=[
        Route("/responses", respond, methods=["POST"]),
        Route("/responses/{response}", find_response, methods=["GET"]),
    ]
)


@app.ws_handler
async def talk(websocket: WebSocket) -> None:
    """Read the file a message names, write its text backwards beside it, and say so."""
    async for name in websocket.iter_text():
        text = (HOME / name).read_text()
        (HOME / f"{name}.out").write_text(text[::-1])
        print(f"read {name}", flush=True)
        await websocket.send_text(text)


@app.invoke_handler
async def invoke(request: Request) -> Response:
    return Response(await request.body())


if __name__ == "__main__":
    app.run()
