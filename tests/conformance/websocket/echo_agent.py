"""An agent on trunkline's host that sends back what it is sent."""

from starlette.websockets import WebSocket

from trunkline.agentserver import InvocationAgentServerHost

app = InvocationAgentServerHost(ws_keepalive_interval_s=0)


@app.ws_handler
async def echo(websocket: WebSocket) -> None:
    while (message := await websocket.receive())["type"] == "websocket.receive":
        if (text := message.get("text")) is not None:
            await websocket.send_text(text)
        else:
            await websocket.send_bytes(message["bytes"])


if __name__ == "__main__":
    app.run("127.0.0.1")
