"""The smallest agent: it sends back what it is sent."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from trunkline.agentserver import InvocationAgentServerHost

app = InvocationAgentServerHost()


@app.ws_handler
async def echo(websocket: WebSocket) -> None:
    while (message := await websocket.receive())["type"] == "websocket.receive":
        if (text := message.get("text")) is not None:
            await websocket.send_text(text)
        else:
            await websocket.send_bytes(message["bytes"])


@app.invoke_handler
async def invoke(request: Request) -> Response:
    return Response(await request.body(), media_type=request.headers.get("content-type"))


if __name__ == "__main__":
    app.run()
