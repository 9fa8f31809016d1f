"""The same echo agent on Microsoft's host."""

from azure.ai.agentserver.invocations import InvocationAgentServerHost
from starlette.websockets import WebSocket

app = InvocationAgentServerHost(access_log=None)


@app.ws_handler
async def talk(websocket: WebSocket) -> None:
    while (message := await websocket.receive())["type"] == "websocket.receive":
        await websocket.send_bytes(message["bytes"])


app.run("127.0.0.1")
