"""Starts agents with an interface in the `world`, and prints what they managed. Run as any user.

Arguments: the folder trunkline is in, a working folder, the interpreter agents run on, and
``zygote`` or ``spawn``.
"""

import asyncio
import json
import os
import secrets
import socket
import sys
import types
from pathlib import Path

package, folder, interpreter, start = sys.argv[1:]
sys.path[:0] = [package, str(Path(__file__).parent)]
# Nothing is built here.
sys.modules["uv"] = types.SimpleNamespace(find_uv_bin=lambda: "/nowhere")  # type: ignore[assignment]

import world  # noqa: E402

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

LOOPBACK = ("127.0.0.1", "127.8.8.8", "0.0.0.0")
#: Tries, as root in a session's network, what is reached when no route is in the way.
WITHOUT_ROUTES = """
import json, socket, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
places = json.loads(sys.argv[1])
for line in subprocess.run(
    ["ip", "route", "show", "type", "unreachable"], capture_output=True, text=True, check=True
).stdout.splitlines():
    subprocess.run(["ip", "route", "del", *line.split()[:2]], check=True)
def reached(place):
    with socket.socket() as sock:
        sock.settimeout(0.5)
        try:
            sock.connect(tuple(place))
        except OSError:
            return False
    return True
with ThreadPoolExecutor(len(places)) as pool:
    print(json.dumps([place for place, ok in zip(places, pool.map(reached, places)) if ok]))
"""
INSIDE = ("198.18.0.1", "198.18.0.2", "198.18.0.101", "255.255.255.255", "224.0.0.251", "240.1.1.1")


class Sink:
    def __init__(self):
        self.said = []

    def write(self, stream, data):
        self.said.append(data.decode(errors="replace"))

    def close_stream(self, stream):
        pass

    def event(self, reason, message):
        self.said.append(f"{reason}: {message}\n")


def spec(root, name, facts):
    home = root / "state" / "sessions" / name / "home"
    home.mkdir(parents=True, mode=0o700, exist_ok=True)
    code = root / "state" / "versions" / "1" / "code"
    code.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).with_name("direct_probes.py")
    (code / "main.py").write_text(source.read_text())
    return InstanceSpec(
        key=SessionKey(ProjectName("p"), AgentName("a"), SessionId(name)),
        version=VersionId("1"),
        launch=Launch(
            command=(interpreter, "-I", str(code / "main.py"), json.dumps(facts)),
            working_dir=str(code),
            environment={},
        ),
        home=home,
        environment={},
        node=NodeId(secrets.token_hex(4)),
        ready_timeout_s=60,
        stop_timeout_s=5,
        may_freeze=True,
    )


def carriers():
    """Return the users, groups, capabilities and filters of the processes that carry packets."""
    found = []
    for pid in [name for name in os.listdir("/proc") if name.isdecimal()]:
        try:
            status = Path("/proc", pid, "status").read_text()
        except OSError:
            continue
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        if facts["Name"] == "slirp4netns" and facts["State"][0] != "Z":
            try:
                space = os.readlink(f"/proc/{pid}/ns/net")
            except OSError:
                # Another's, or one that has ended since.
                continue
            # Other tests have worlds of their own.
            if space == os.readlink("/proc/self/ns/net"):
                found.append({"pid": int(pid), **facts})
    return found


async def behind_the_routes(pid, platform_port):
    places = [(address, world.PORT) for address in (world.PEER, *world.FORBIDDEN)]
    places += [(address, platform_port) for address in (world.OWN, "198.18.0.2", "198.18.0.3")]
    tried = await asyncio.create_subprocess_exec(
        "nsenter", "-t", str(pid), "-n", sys.executable, "-I", "-c", WITHOUT_ROUTES,
        json.dumps(places), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await tried.communicate()
    return json.loads(said)


async def main():
    root = Path(folder)
    os.umask(0o077)
    # At all of the machine's addresses, as a gateway might be.
    platform = await asyncio.start_server(lambda _, writer: writer.close(), "0.0.0.0", 0)
    runtime = ProcessRuntime(
        ProcessSettings(
            state_dir=root / "state", run_dir=root / "run", sandbox="auto", start=start,
            network="direct", egress_private=("10.1.0.0/16",),
            # One asks the gateway for names, the other a server of its own.
            direct_resolvers=() if os.geteuid() == 0 else (world.PEER,),
        )
    )  # fmt: skip
    facts = {
        "peer": world.PEER, "port": world.PORT, "private": world.PRIVATE,
        "peers": world.FORBIDDEN,
        "refused": [*world.FORBIDDEN, world.OWN, *LOOPBACK, *INSIDE],
        "platform_port": platform.sockets[0].getsockname()[1],
        "neighbours_port": 7070, "tries": True,
    }  # fmt: skip
    # That they aren't reached by agents says something only if they are reached.
    for address in (world.PEER, world.PRIVATE, *world.FORBIDDEN):
        socket.create_connection((address, world.PORT), timeout=5).close()
    level = await runtime.find_level()
    sink = Sink()
    try:
        first = await runtime.start(spec(root, "first", facts | {"tries": False}), sink)
        mode = (await runtime.warm_up(spec(root, "first", facts))).mode
        prober = spec(root, "prober", facts)
        second = await runtime.start(prober, sink)
        during = carriers()
        without_routes = None
        if os.geteuid() == 0:
            without_routes = await behind_the_routes(second.pid, facts["platform_port"])
        await first.stop()
        await second.stop()
        results = json.loads((prober.home / "results.json").read_text())
    except BaseException:
        sys.stderr.write("".join(sink.said))
        raise
    finally:
        await runtime.aclose()
        platform.close()
    protections = {each.name: [each.is_active, each.text] for each in level.protections}
    print(
        json.dumps(
            {
                "results": results, "carriers": during, "left": carriers(), "start": mode,
                "protections": protections, "said": sink.said, "without_routes": without_routes,
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main())
