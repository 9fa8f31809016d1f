"""An agent on another host that sends back what it is sent, and agrees to permessage-deflate."""

import asyncio
import os

from websockets.asyncio.server import ServerConnection, serve


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def main() -> None:
    port = int(os.environ["PORT"])
    async with serve(
        echo, "127.0.0.1", port, compression="deflate", max_size=None, ping_interval=None
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
