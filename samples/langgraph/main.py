"""A LangGraph agent, reached in three ways: ``invocations``, ``responses``, and the WebSocket."""

import json
import os
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.websockets import WebSocket

from desk import build
from openai_shapes import MAX_CHARS, BadRequestError, ResponseShape, read_request
from rule_model import RuleModel
from trunkline.agentserver import InvocationAgentServerHost
from turn import Event, Final, Library, Partial, Step

EVENTS = "text/event-stream"
MEMORY = Path(os.environ.get("HOME") or ".") / "conversations.sqlite"
#: What is said by ``invocations`` and by the WebSocket is one conversation for each session.
SESSION = "session"
_ROLES: dict[str, type[AnyMessage]] = {"user": HumanMessage, "assistant": AIMessage}


@asynccontextmanager
async def open_library(host: InvocationAgentServerHost) -> AsyncIterator[None]:
    async with AsyncSqliteSaver.from_conn_string(str(MEMORY)) as saver:
        host.state.library = Library(build(RuleModel(), saver))
        yield


def plain(number: str, event: Event) -> dict[str, Any]:
    """Return an event as ``invocations`` and the WebSocket spell it."""
    match event:
        case Step(tool, arguments):
            return {"type": "step", "tool": tool, "arguments": arguments}
        case Partial(_piece, text):
            return {"type": "partial", "id": number, "text": text}
        case Final(text, is_question):
            return {"type": "final", "id": number, "text": text, "is_question": is_question}


def error(code: str, message: str) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": message}


def refused(problem: BadRequestError, status: int = 400) -> Response:
    return JSONResponse(problem.as_body(), status)


# invocations


async def invoke(request: Request) -> Response:
    try:
        words, stream = _read_invocation(await request.body(), request.headers)
    except BadRequestError as problem:
        return refused(problem)
    turn = app.state.library.say(SESSION, [HumanMessage(words)])
    if stream:
        return StreamingResponse(_plain_events(turn), media_type=EVENTS)
    async with aclosing(turn):
        events = [plain("1", event) async for event in turn if not isinstance(event, Partial)]
    *steps, final = events
    return JSONResponse(
        {"answer": final["text"], "is_question": final["is_question"], "steps": steps}
    )


def _read_invocation(body: bytes, headers: Any) -> tuple[str, bool]:
    words: object = body.decode(errors="replace")
    stream = EVENTS in headers.get("accept", "")
    if headers.get("content-type", "").startswith("application/json"):
        try:
            given = json.loads(body)
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            raise BadRequestError("invalid_json", 'the body must be such as {"message": "Hello."}')
        words, stream = given.get("message"), stream or given.get("stream") is True
    if not isinstance(words, str) or not words.strip() or len(words) > MAX_CHARS:
        raise BadRequestError(
            "invalid_value", f"message must have 1 to {MAX_CHARS} characters", "message"
        )
    return words.strip(), stream


async def _plain_events(turn: AsyncIterator[Event]) -> AsyncIterator[str]:
    try:
        async for event in turn:
            told = plain("1", event)
            yield f"event: {told['type']}\ndata: {json.dumps(told)}\n\n"
    except Exception:  # noqa: BLE001 - the outermost frame of a stream
        # The status has been sent long ago: that it failed is the last event.
        traceback.print_exc()
        yield f"event: error\ndata: {json.dumps(error('agent_failed', 'I failed.'))}\n\n"


# responses


async def respond(request: Request) -> Response:
    library: Library = app.state.library
    try:
        asked = read_request(await request.body())
        thread = asked.conversation
        if thread is None and asked.previous_response_id is not None:
            thread = await library.thread_after(asked.previous_response_id)
            if thread is None:
                raise BadRequestError(
                    "previous_response_not_found",
                    f"there is no response {asked.previous_response_id!r} in this session",
                    "previous_response_id",
                )
    except BadRequestError as problem:
        return refused(problem)
    shape = ResponseShape(f"resp_{uuid4().hex}", int(time.time()), asked.echo)
    said = [_ROLES.get(role, SystemMessage)(text) for role, text in asked.said]
    turn = library.say(thread or shape.response_id, said, shape.response_id)
    if asked.stream:
        return StreamingResponse(_response_events(turn, shape), media_type=EVENTS)
    final = Final("", is_question=False)
    async with aclosing(turn):
        async for event in turn:
            if isinstance(event, Final):
                final = event
    return JSONResponse(shape.document("completed", final.text))


async def _response_events(
    turn: AsyncIterator[Event], shape: ResponseShape
) -> AsyncIterator[bytes]:
    try:
        for event in shape.begin():
            yield event
        has_begun = False
        async for told in turn:
            match told:
                case Partial(piece):
                    has_begun = True
                    yield shape.piece(piece)
                case Final(text):
                    # A question of the graph's own comes in one piece.
                    if not has_begun:
                        yield shape.piece(text)
                    for event in shape.end(text):
                        yield event
                case Step():
                    pass
    except Exception:  # noqa: BLE001 - the outermost frame of a stream
        traceback.print_exc()
        yield shape.fail("The agent failed.")


async def find_response(request: Request) -> Response:
    response_id = request.path_params["response"]
    kept = await app.state.library.find(response_id)
    if kept is None:
        return refused(BadRequestError("not_found", f"there is no response {response_id!r}"), 404)
    echo = {"model": "rules", "metadata": {}}
    shape = ResponseShape(response_id, int(kept.at.timestamp()), echo)
    return JSONResponse(shape.document("completed", kept.answer.text))


# the WebSocket


async def talk(websocket: WebSocket) -> None:
    number = 0
    while (message := await websocket.receive())["type"] == "websocket.receive":
        words = message.get("text")
        if words is None:
            await websocket.close(1003, "this agent takes text")
            return
        if not words.strip() or len(words) > MAX_CHARS:
            problem = error("invalid_value", f"a message has 1 to {MAX_CHARS} characters")
            await websocket.send_json(problem)
            continue
        number += 1
        async with aclosing(app.state.library.say(SESSION, [HumanMessage(words.strip())])) as turn:
            async for event in turn:
                await websocket.send_json(plain(str(number), event))


app = InvocationAgentServerHost(
    lifespan=open_library,
    routes=[
        Route("/responses", respond, methods=["POST"]),
        Route("/responses/{response}", find_response, methods=["GET"]),
    ],
)
app.invoke_handler(invoke)
app.ws_handler(talk)

if __name__ == "__main__":
    app.run()
