"""Starts a victim and a prober, and prints what the prober managed. Run as any user.

Arguments: the folder trunkline is in, a working folder, ``auto`` or ``off``, the interpreter
agents run on, ``spawn``, ``zygote``, or ``ahead``: a zygote whose forks are made before they
are anybody's, and what of a network agents have.
"""

import asyncio
import json
import os
import secrets
import socket
import sys
import types
from pathlib import Path

package, folder, mode, interpreter, start, network = sys.argv[1:]
sys.path[:0] = [package]
# Nothing is built here.
sys.modules["uv"] = types.SimpleNamespace(find_uv_bin=lambda: "/nowhere")  # type: ignore[assignment]

from trunkline.protocol.ids import (  # noqa: E402
    AgentName,
    NodeId,
    ProjectName,
    SessionId,
    SessionKey,
    VersionId,
)
from trunkline.runtimes.interface import InstanceSpec, Launch  # noqa: E402
from trunkline.runtimes.process.runtime import ProcessRuntime  # noqa: E402
from trunkline.runtimes.process.settings import ProcessSettings  # noqa: E402

VICTIM = """
import contextlib, os, socket
open(os.path.join(os.environ["HOME"], "secret"), "w").write("the victim's secret")
server = socket.socket(socket.AF_UNIX)
server.bind(os.environ["TRUNKLINE_AGENT_SOCKET"])
server.listen()
other = socket.socket()
other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
other.bind(("127.0.0.1", int(os.environ["PORT"])))
other.listen()
open(os.path.join(os.environ["HOME"], "port"), "w").write(str(other.getsockname()[1]))
while True:
    connection, _ = server.accept()
    with connection, contextlib.suppress(OSError):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
"""


class Sink:
    def __init__(self):
        self.said = []

    def write(self, stream, data):
        self.said.append(data.decode(errors="replace"))

    def close_stream(self, stream):
        pass

    def event(self, reason, message):
        self.said.append(f"{reason}: {message}\n")


def spec(root, name, *arguments, environment):
    home = root / "state" / "sessions" / name / "home"
    home.mkdir(parents=True, mode=0o700, exist_ok=True)
    code = root / "state" / "versions" / name / "code"
    code.mkdir(parents=True, exist_ok=True)
    (code / "victim.py").write_text(VICTIM)
    for part in ("probes.py", "kernel_probes.py", "probing.py"):
        (code / part).write_text(Path(__file__).with_name(part).read_text())
    return InstanceSpec(
        key=SessionKey(ProjectName("p"), AgentName("a"), SessionId(name)),
        version=VersionId(f"of-{name}"),
        launch=Launch(
            command=(interpreter, "-I", str(code / arguments[0]), *arguments[1:]),
            working_dir=str(code),
            environment={},
        ),
        home=home,
        environment=environment,
        node=NodeId(secrets.token_hex(4)),
        ready_timeout_s=60,
        stop_timeout_s=5,
    )


#: The one address of this machine that agents may reach, so that something answers them.
ALLOWED = "127.0.0.2"


class Names:
    """Says what names stand for; one of them means something else the second time."""

    def __init__(self):
        self.rebound = [ALLOWED, "127.0.0.1"]

    async def addresses(self, host, port):
        if host == "rebound.test":
            return [self.rebound.pop(0) if len(self.rebound) > 1 else self.rebound[0]]
        if host == "allowed.test":
            return [ALLOWED]
        if host == "platform.test":
            return ["127.0.0.1"]
        return [host]

    def close(self):
        pass


async def redirecting(port):
    """Serve, at the address that may be reached, nothing but the way to the platform."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        where = f"http://127.0.0.1:{port}/"
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {where}\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, ALLOWED, 0)


async def main():
    root = Path(folder)
    os.umask(0o077)
    key = root / "state" / "issuer.pem"
    key.parent.mkdir(parents=True)
    key.write_text("the platform's key")
    platform = await asyncio.start_server(lambda _, writer: writer.close(), "0.0.0.0", 0)
    abstract = secrets.token_hex(8)
    hidden = await asyncio.start_unix_server(lambda _, writer: writer.close(), "\0" + abstract)
    runtime = ProcessRuntime(
        ProcessSettings(
            state_dir=root / "state", run_dir=root / "run", sandbox=mode,
            start="spawn" if start == "spawn" else "zygote", forks_ahead=int(start == "ahead"),
            egress_private=(f"{ALLOWED}/32",), network=network,
        )
    )  # fmt: skip
    runtime._resolver.close()
    runtime._resolver = Names()
    platform_port = platform.sockets[0].getsockname()[1]
    allowed = await redirecting(platform_port)
    level = await runtime.find_level()
    sink = Sink()
    started = set()
    victim_spec = spec(root, "victim", "victim.py", environment={"SECRET": "victims-own-secret"})
    try:
        started.add((await runtime.warm_up(victim_spec)).mode)
        victim = await runtime.start(victim_spec, sink)
        facts = {
            "is_free": mode == "off",
            "victim_home": str(victim_spec.home),
            "victim_pid": victim.pid,
            "victim_socket": victim.address.path,
            "victim_port": int((victim_spec.home / "port").read_text()),
            "platform_port": platform_port,
            "allowed_port": allowed.sockets[0].getsockname()[1],
            "abstract": abstract,
            "addresses": [row[4][0] for row in socket.getaddrinfo(socket.gethostname(), None)],
            "key": str(key),
            "state_dir": str(root / "state"),
        }
        prober = spec(root, "prober", "probes.py", json.dumps(facts), environment={})
        started.add((await runtime.warm_up(prober)).mode)
        # What was taken for the victim is made again, too.
        await runtime.warm_up(victim_spec)
        assert runtime.forks_ahead == (2 if start == "ahead" else 0)
        running = await runtime.start(prober, sink)
        assert runtime.forks_ahead == (1 if start == "ahead" else 0), "it isn't the one made ahead"
        started.add((await runtime.warm_up(prober)).mode)
        reader, writer = await asyncio.open_unix_connection(victim.address.path)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        alive = (await reader.read(12)) == b"HTTP/1.1 200"
        writer.close()
        results = json.loads((prober.home / "results.json").read_text())
        await running.stop()
    except BaseException:
        sys.stderr.write("".join(sink.said))
        raise
    finally:
        await runtime.aclose()
        platform.close()
        allowed.close()
        hidden.close()
    protections = {each.name: [each.is_active, each.text] for each in level.protections}
    found = {"results": results, "alive": alive, "protections": protections}
    print(json.dumps(found | {"started": sorted(started)}))


asyncio.run(main())
