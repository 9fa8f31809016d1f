"""An echo on picows alone: no ASGI, no handler, no host. What there is to be near to."""

import os

import picows
import uvloop


class Echo(picows.WSListener):
    """Sends back what comes."""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())


async def serve() -> None:
    server = await picows.ws_create_server(
        lambda _: Echo(), "127.0.0.1", int(os.environ["PORT"]), enable_auto_ping=False
    )
    await server.serve_forever()


uvloop.run(serve())
