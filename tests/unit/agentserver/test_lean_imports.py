"""What of picows and uvicorn the host doesn't use is not loaded, and is there for who does."""

import subprocess
import sys

import pytest

LEFT_OUT = (
    "aiofastnet",
    "click",
    "logging.config",
    "picows.api",
    "picows.proxy",
    "python_socks",
    "uvicorn.main",
    "uvicorn.supervisors",
)


def run(script: str) -> list[str]:
    """Run a script in an interpreter of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_host_does_not_load_what_it_does_not_use():
    loaded = run("import trunkline.agentserver, sys; print(*sys.modules)")
    assert {"picows", "uvicorn", "uvicorn.server"} <= set(loaded)
    assert [name for name in LEFT_OUT if name in loaded] == []


def test_uvicorn_is_whole_for_who_uses_it():
    assert run(
        "import trunkline.agentserver, uvicorn, click\n"
        "from uvicorn import main, run, Config, Server\n"
        "import uvicorn.main as module\n"
        "print(uvicorn.run is run, type(main).__name__, Server.__module__)\n"
        "print(hasattr(uvicorn, 'nothing'))\n"
    ) == ["True", "Command", "uvicorn.server", "False"]


def test_uvicorn_still_reads_a_configuration_of_the_logs():
    assert run(
        "import trunkline.agentserver, uvicorn, logging\n"
        "async def app(scope, receive, send): pass\n"
        "handler = {'class': 'logging.StreamHandler', 'stream': 'ext://sys.stdout'}\n"
        "uvicorn.Config(app, log_config={'version': 1, 'disable_existing_loggers': False,\n"
        "    'handlers': {'h': handler}, 'loggers': {'mine': {'handlers': ['h']}}})\n"
        "logging.getLogger('mine').error('told')\n"
    ) == ["told"]


_TALK = """
import asyncio
{first}
import picows

class Echo(picows.WSListener):
    def on_ws_frame(self, transport, frame):
        transport.send(frame.msg_type, frame.get_payload_as_bytes())

class Client(picows.WSListener):
    def on_ws_frame(self, transport, frame):
        print(frame.get_payload_as_ascii_text())
        transport.disconnect()

async def pass_on(reader, writer, port):
    # A proxy as RFC 9110 section 9.3.6 has it, for one connection.
    print((await reader.readuntil(b"\\r\\n\\r\\n")).split()[0].decode())
    there, back = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
    async def copy(source, target):
        while data := await source.read(65536):
            target.write(data)
        target.close()
    await asyncio.gather(copy(reader, back), copy(there, writer))

async def main():
    server = await picows.ws_create_server(lambda request: Echo(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    done = asyncio.Event()
    async def on_connection(reader, writer):
        await pass_on(reader, writer, port)
        done.set()
    proxy = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    for through in (None, f"http://127.0.0.1:{{proxy.sockets[0].getsockname()[1]}}"):
        transport, _ = await picows.ws_connect(Client, f"ws://127.0.0.1:{{port}}/", proxy=through)
        transport.send(picows.WSMsgType.TEXT, b"hello")
        await transport.wait_disconnected()
    await done.wait()
    server.close()
    proxy.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("first", ["import trunkline.agentserver", "import picows"])
def test_picows_is_whole_for_who_uses_its_client(first: str):
    assert run(_TALK.format(first=first)) == ["hello", "CONNECT", "hello"]


def test_what_was_imported_before_is_left_alone():
    assert run(
        "import uvicorn, picows, sys\n"
        "before = dict(sys.modules), dict(vars(uvicorn)), dict(vars(picows))\n"
        "import trunkline.agentserver\n"
        "print(all(sys.modules[name] is module for name, module in before[0].items()))\n"
        "print(vars(uvicorn).items() >= before[1].items(), vars(picows) == before[2])\n"
    ) == ["True", "True", "True"]


_ANOTHER_PICOWS = """
import importlib.abc, sys

class WithoutOneName(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        api = sys.modules.get("picows.api")
        if name == "picows.picows" and api is not None:
            vars(api).pop("ws_connect", None)

sys.meta_path.insert(0, WithoutOneName())
import trunkline.agentserver, picows
print(picows.ws_connect.__module__, "__getattr__" in vars(picows))
"""


def test_a_package_that_is_made_in_another_way_is_imported_the_usual_way():
    # As it would be if picows took something else from the module of its connections.
    assert run(_ANOTHER_PICOWS) == ["picows.api", "False"]


_SERVE = """
import asyncio, sys
import trunkline.agentserver
{first}
from tests.integration.agentserver.conftest import serve

async def echo(websocket):
    await websocket.send_text(await websocket.receive_text())

async def main():
    async with serve(echo) as served, served.connect() as websocket:
        await websocket.send("hello")
        print(await websocket.recv())
    print("aiofastnet" in sys.modules, hasattr(sys.modules.get("aiofastnet"), "create_server"))

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("first", "is_loaded"), [("", "False"), ("import aiofastnet", "True")], ids=["alone", "loaded"]
)
def test_a_connection_does_not_load_it_either(first: str, is_loaded: str):
    assert run(_SERVE.format(first=first)) == ["hello", is_loaded, is_loaded]
