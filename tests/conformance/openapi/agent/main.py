"""An agent that takes whatever it is sent, and answers to every operation."""

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.websockets import WebSocket

from trunkline.agentserver import InvocationAgentServerHost


async def respond(request: Request) -> Response:
    body = json.loads(await request.body())
    return JSONResponse({"id": "resp_1", "object": "response", "output": [], "asked": body})


async def about_response(request: Request) -> Response:
    return JSONResponse({"id": request.path_params["response"], "object": "response"})


app = InvocationAgentServerHost(
    routes=[
        Route("/responses", respond, methods=["POST"]),
        Route("/responses/{response}", about_response, methods=["GET", "DELETE"]),
        Route("/responses/{response}/cancel", about_response, methods=["POST"]),
        Route("/responses/{response}/input_items", about_response, methods=["GET"]),
    ],
    openapi_spec={"openapi": "3.1.1", "info": {"title": "probe", "version": "1"}, "paths": {}},
)


@app.ws_handler
async def talk(websocket: WebSocket) -> None:
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@app.invoke_handler
async def invoke(request: Request) -> Response:
    return Response(await request.body(), media_type="application/octet-stream")


@app.get_invocation_handler
async def get_invocation(request: Request) -> Response:
    return JSONResponse({"invocation": request.state.invocation_id})


@app.cancel_invocation_handler
async def cancel_invocation(request: Request) -> Response:
    return JSONResponse({"cancelled": request.state.invocation_id})


if __name__ == "__main__":
    app.run()
