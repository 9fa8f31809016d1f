"""Starting and stopping a host as the process it is in real life."""

import asyncio
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

AGENT = """
    import asyncio, sys
    from starlette.responses import PlainTextResponse
    from trunkline.agentserver import InvocationAgentServerHost

    app = InvocationAgentServerHost(graceful_shutdown_timeout=GRACE)
    say = lambda text: print(text, flush=True)

    @app.ws_handler
    async def talk(websocket):
        mode = websocket.query_params.get("mode")
        await websocket.send_text("hello")
        if mode == "stubborn":
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    say("refused")
        elif mode == "flood":
            while True:
                await websocket.send_bytes(bytes(65536))
        elif mode == "forever":
            await asyncio.sleep(3600)
        else:
            async for text in websocket.iter_text():
                await websocket.send_text(text)

    @app.invoke_handler
    async def invoke(request):
        say("invoked")
        await asyncio.sleep(0.5)
        return PlainTextResponse("done")

    @app.shutdown_handler
    async def end():
        say("shutdown handler")

    app.register_pre_shutdown_callback(lambda: say("pre-shutdown"))
    app.run()
"""


def agent(grace=5):
    return AGENT.replace("GRACE", str(grace))


async def finish(host):
    """Return the exit code and what was printed until then."""
    assert host.process.stdout is not None
    rest = (await host.process.stdout.read()).decode().splitlines()
    return await host.process.wait(), [*host.lines, *rest]


async def test_the_unix_socket_is_its_owners_alone_and_goes_with_the_host(start_host):
    host = await start_host(agent())
    assert stat.S_IMODE(Path(host.socket_path).stat().st_mode) == 0o600
    host.process.send_signal(signal.SIGTERM)
    code, _ = await finish(host)
    assert code == 0
    assert not Path(host.socket_path).exists()


async def test_a_drain_says_1001_and_runs_everything_in_order(start_host):
    host = await start_host(agent())
    client = await host.connect()
    assert await client.recv() == "hello"
    host.process.send_signal(signal.SIGTERM)
    with pytest.raises(ConnectionClosed):
        await client.recv()
    assert client.close_code == 1001
    code, lines = await finish(host)
    assert code == 0
    text = "\n".join(lines)
    assert "code=1001" in text
    assert text.index("pre-shutdown") < text.index("code=1001") < text.index("shutdown handler")


async def test_sigint_drains_too(start_host):
    host = await start_host(agent())
    host.process.send_signal(signal.SIGINT)
    code, lines = await finish(host)
    assert code == 0
    assert "Traceback" not in "\n".join(lines)


async def test_a_request_in_flight_is_finished(start_host):
    host = await start_host(agent())
    reader, writer = await asyncio.open_unix_connection(host.socket_path)
    writer.write(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    await host.line_with("invoked")
    host.process.send_signal(signal.SIGTERM)
    assert (await reader.read()).endswith(b"\r\n\r\ndone")
    writer.close()
    assert (await finish(host))[0] == 0


@pytest.mark.parametrize("mode", ["forever", "flood"])
async def test_what_does_not_end_is_ended_after_the_grace_period(start_host, mode):
    host = await start_host(agent(grace=1))
    reader, writer = await asyncio.open_unix_connection(host.socket_path)
    writer.write(
        b"GET /invocations_ws?mode=%b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % mode.encode()
    )
    await reader.readuntil(b"hello")
    # From here on this client reads nothing and answers nothing.
    host.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        code, lines = await finish(host)
    assert code == 0
    assert "shutdown handler" in "\n".join(lines)
    writer.close()


async def test_a_handler_that_refuses_to_end_does_not_keep_the_process(start_host):
    host = await start_host(agent(grace=0))
    client = await host.connect("/invocations_ws?mode=stubborn")
    assert await client.recv() == "hello"
    host.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        code, lines = await finish(host)
    assert code == 1
    assert "still running" in lines[-1]
    await client.close()


async def test_a_second_signal_ends_the_process_at_once(start_host):
    host = await start_host(agent(grace=30))
    client = await host.connect("/invocations_ws?mode=forever")
    assert await client.recv() == "hello"
    host.process.send_signal(signal.SIGTERM)
    await host.line_with("draining")
    host.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        code, _ = await finish(host)
    assert code == 128 + signal.SIGTERM
    await client.close()


async def run_to_end(source, tmp_path, env):
    script = tmp_path / "agent.py"
    script.write_text(source)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )
    _, errors = await process.communicate()
    return process.returncode, errors.decode().splitlines()


MINIMAL = """
from trunkline.agentserver import InvocationAgentServerHost
InvocationAgentServerHost().run("127.0.0.1", {port})
"""


async def test_a_taken_port_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = await run_to_end(MINIMAL.format(port=port), tmp_path, {})
    assert code == 1
    assert lines == [f"cannot listen on 127.0.0.1:{port}: Address already in use"]


async def test_a_taken_socket_is_one_line_and_stays(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(path)
        taken.listen()
        env = {"TRUNKLINE_AGENT_SOCKET": path}
        code, lines = await run_to_end(MINIMAL.format(port=1), tmp_path, env)
    assert code == 1
    assert lines == [f"cannot listen on {path}: Address already in use"]
    assert Path(path).exists()


async def test_a_socket_left_by_a_dead_host_is_replaced(start_host, tmp_path):
    host = await start_host(agent())
    host.process.kill()
    await finish(host)
    assert Path(host.socket_path).exists()
    again = await start_host(agent(), TRUNKLINE_AGENT_SOCKET=host.socket_path)
    again.socket_path = host.socket_path
    client = await again.connect()
    assert await client.recv() == "hello"
    await client.close()


async def test_a_bad_variable_stops_the_start(tmp_path):
    code, lines = await run_to_end(MINIMAL.format(port=1), tmp_path, {"PORT": "abc"})
    assert code != 0
    assert "PORT must be an integer" in lines[-1]


async def test_the_host_loads_nothing_of_the_platform(tmp_path):
    source = (
        "import sys, trunkline.agentserver\n"
        "own = {n.split('.')[1] for n in sys.modules if n.startswith('trunkline.')}\n"
        "sys.exit(str(own - {'agentserver', 'protocol'}) if own - {'agentserver', 'protocol'}"
        " else 0)\n"
    )
    code, lines = await run_to_end(source, tmp_path, {})
    assert (code, lines) == (0, [])


DRAINING = """
    import asyncio
    from trunkline.agentserver import InvocationAgentServerHost

    app = InvocationAgentServerHost(drain_timeout_s=DRAIN, graceful_shutdown_timeout=5)

    @app.ws_handler
    async def talk(websocket):
        await websocket.send_text("hello")
        await websocket.state.draining.wait()
        await websocket.send_text("draining")
        if websocket.query_params.get("mode") == "stay":
            await websocket.receive_text()

    app.run()
"""


async def answer_to(host, request):
    reader, writer = await asyncio.open_unix_connection(host.socket_path)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


READINESS = b"GET /readiness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def test_while_draining_handlers_know_and_probes_see(start_host):
    host = await start_host(DRAINING.replace("DRAIN", "20"))
    client = await host.connect("/invocations_ws?mode=stay")
    assert await client.recv() == "hello"
    assert b" 200 OK" in await answer_to(host, READINESS)
    host.process.send_signal(signal.SIGTERM)
    assert await client.recv() == "draining"
    answer = await answer_to(host, READINESS)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b'{"status":"draining"}')
    with pytest.raises(InvalidStatus) as refused:
        await host.connect()
    assert refused.value.response.status_code == 503
    # The last one ends, and nobody waits for the rest of the 20 s.
    await client.send("done")
    async with asyncio.timeout(10):
        code, lines = await finish(host)
    assert code == 0
    assert client.close_code == 1000
    assert "closed_by=handler" in "\n".join(lines)


async def test_what_is_open_after_the_drain_is_closed_with_1001(start_host):
    host = await start_host(DRAINING.replace("DRAIN", "0.5"))
    client = await host.connect("/invocations_ws?mode=stay")
    assert await client.recv() == "hello"
    host.process.send_signal(signal.SIGTERM)
    assert await client.recv() == "draining"
    with pytest.raises(ConnectionClosed):
        await client.recv()
    assert client.close_code == 1001
    assert (await finish(host))[0] == 0


async def test_a_handler_may_end_its_sockets_itself_when_it_hears_of_it(start_host):
    host = await start_host(DRAINING.replace("DRAIN", "20"))
    client = await host.connect()
    assert await client.recv() == "hello"
    host.process.send_signal(signal.SIGTERM)
    assert await client.recv() == "draining"
    async with asyncio.timeout(10):
        assert (await finish(host))[0] == 0
    await client.wait_closed()
    assert client.close_code == 1000


async def test_a_second_signal_cuts_the_drain_short(start_host):
    host = await start_host(DRAINING.replace("DRAIN", "30"))
    client = await host.connect("/invocations_ws?mode=stay")
    assert await client.recv() == "hello"
    host.process.send_signal(signal.SIGTERM)
    assert await client.recv() == "draining"
    host.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        assert (await finish(host))[0] == 128 + signal.SIGTERM
    await client.close()
