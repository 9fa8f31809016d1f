"""What a client may not send ends its connection with the code that says so."""

import pytest

from tests.integration.agentserver.conftest import client_frame, serve
from tests.integration.agentserver.test_connections import echo

CONTINUATION, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9


class TestProtocolErrors:
    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            (client_frame(TEXT, b"\xff\xfe"), 1007),
            (client_frame(TEXT, b"\xff", fin=False), 1007),
            (client_frame(TEXT, b"x", rsv=0x40), 1002),
            (client_frame(PING, b"x", rsv=0x10), 1002),
            (client_frame(3, b"x"), 1002),
            (client_frame(PING, b"x", fin=False), 1002),
            (client_frame(CONTINUATION, b"x"), 1002),
            (client_frame(TEXT, b"a", fin=False) + client_frame(TEXT, b"b"), 1002),
            (b"\x81\x01x", 1002),
            (client_frame(CLOSE, b"\x03"), 1002),
            (client_frame(CLOSE, (1006).to_bytes(2)), 1002),
            (client_frame(CLOSE, (5000).to_bytes(2)), 1002),
            (client_frame(CLOSE, (1000).to_bytes(2) + b"\xff"), 1007),
        ],
    )
    async def test_are_answered_by_their_code(self, frame, code, events):
        async with serve(echo) as host:
            client = await host.raw()
            client.writer.write(frame)
            assert await client.close_code() == code
            assert await client.reader.read() == b""
            await client.leave()
            event = await events.next()
        assert (event["close_code"], event["closed_by"]) == (code, "protocol")
        assert not events.errors

    async def test_a_frame_over_the_limit_is_1009_and_told_while_more_comes(self, events):
        async with serve(echo, ws_max_message_bytes=1000) as host:
            client = await host.raw()
            # Far more than any buffer between us: the close frame has to get past all of it.
            client.writer.write(client_frame(BINARY, bytes(8 << 20)))
            assert await client.close_code() == 1009
            await client.leave()
            assert (await events.next())["close_code"] == 1009

    async def test_fragments_over_the_limit_are_1009_and_say_which_limit(self, events):
        async with serve(echo, ws_max_message_bytes=1000) as host:
            client = await host.raw()
            client.send(BINARY, bytes(600), fin=False)
            client.send(CONTINUATION, bytes(600), fin=True)
            opcode, payload = await client.frame()
            assert (opcode, payload[:2]) == (CLOSE, (1009).to_bytes(2))
            assert b"ws_max_message_bytes" in payload
            await client.leave()

    async def test_a_message_at_the_limit_passes(self):
        async with serve(echo, ws_max_message_bytes=1000) as host, host.connect() as client:
            await client.send(bytes(1000))
            assert await client.recv() == bytes(1000)

    async def test_a_close_followed_by_rubbish_is_a_close(self, events):
        async with serve(echo) as host:
            client = await host.raw()
            client.writer.write(
                client_frame(CLOSE, (4001).to_bytes(2)) + client_frame(CLOSE, b"") + b"\xff\xff"
            )
            assert await client.close_code() == 4001
            await client.leave()
            assert (await events.next())["close_code"] == 4001
