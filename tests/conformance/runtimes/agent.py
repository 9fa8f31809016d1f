"""An agent out of the standard library. Its arguments say how it behaves.

It answers every request with 200, except ``/exit/N``, which ends it with code N.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--listen", choices=["socket", "port", "any-port", "nowhere"], default="socket")
parser.add_argument("--status", default="200 OK")
parser.add_argument("--say", default="")
parser.add_argument("--complain", default="")
parser.add_argument("--exit", type=int)
parser.add_argument("--kill", type=int)
parser.add_argument("--flood", type=int, default=0)
parser.add_argument("--ignore-term", action="store_true")
parser.add_argument("--farewell", default="")
parser.add_argument("--child", action="store_true")
parser.add_argument("--escape", action="store_true")
parser.add_argument("--hang-first", action="store_true")
options = parser.parse_args()

BLOCK = bytes(range(256)) * 1024


def on_term(*_: object) -> None:
    print(options.farewell, flush=True)
    os._exit(0)


if options.ignore_term:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
elif options.farewell:
    signal.signal(signal.SIGTERM, on_term)
home = Path(os.environ["HOME"])
(home / "about.json").write_text(
    json.dumps(
        {
            "environment": dict(os.environ),
            "cwd": os.getcwd(),
            "stdin": os.readlink("/proc/self/fd/0"),
            "fds": len(os.listdir("/proc/self/fd")),
            "sid": os.getsid(0),
            "pid": os.getpid(),
            "namespace": os.readlink("/proc/self/ns/pid"),
        }
    )
)
if options.child or options.escape:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    child = subprocess.Popen([sys.executable, "-I", "-c", code], start_new_session=options.escape)
    (home / "child").write_text(str(child.pid))
if options.say:
    print(options.say, end="", flush=True)
if options.complain:
    print(options.complain, end="", file=sys.stderr, flush=True)
if options.exit is not None:
    os._exit(options.exit)
if options.kill is not None:
    os.kill(os.getpid(), options.kill)

if options.listen == "socket":
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.environ["TRUNKLINE_AGENT_SOCKET"])
else:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    host = "0.0.0.0" if options.listen == "any-port" else "127.0.0.1"
    server.bind((host, 0 if options.listen == "nowhere" else int(os.environ["PORT"])))
server.listen()
hung = []
while True:
    connection, _ = server.accept()
    if options.hang_first and not hung:
        hung.append(connection)
        continue
    # Who asks may have gone before the question, or before the answer.
    with connection, contextlib.suppress(ConnectionError):
        if not (request := connection.recv(4096)):
            continue
        path = request.split(b" ")[1].decode()
        if path.startswith("/exit/"):
            os._exit(int(path.removeprefix("/exit/")))
        if path == "/flood":
            left = options.flood
            while left:
                left -= os.write(1, BLOCK[: min(left, len(BLOCK))])
            os._exit(0)
        body = b"hello"
        connection.sendall(
            f"HTTP/1.1 {options.status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
