"""The agents of the benchmark: one that answers, and five that take what they can get.

Each of them is one file that is deployed as it is.
"""

VOICE = """
from trunkline.agentserver import InvocationAgentServerHost

app = InvocationAgentServerHost()


@app.ws_handler
async def handle(websocket):
    async for data in websocket.iter_bytes():
        await websocket.send_bytes(data)


app.run()
"""

BAD = """
import os
import sys
import threading
import time
from pathlib import Path

from trunkline.agentserver import InvocationAgentServerHost

app = InvocationAgentServerHost()
BLOCK = b"x" * (1 << 20)


def fork():
    while True:
        try:
            os.fork()
        except OSError:
            pass


def memory():
    kept = []
    while True:
        kept.append(BLOCK * 32)


def disk():
    with open(Path.home() / str(time.time_ns()), "wb") as file:
        while True:
            file.write(BLOCK)
            time.sleep(0.01)


def log():
    while True:
        sys.stdout.write("there is always something to say\\n" * 100)


def spin():
    while True:
        pass


WAYS = {"fork": fork, "memory": memory, "disk": disk, "log": log, "spin": spin}


@app.ws_handler
async def handle(websocket):
    way = WAYS[await websocket.receive_text()]
    await websocket.send_text("it begins")
    if way is not memory:
        # More than one at a time, so that it wants more than it is given.
        for _ in range(2):
            if os.fork() == 0:
                way()
    threading.Thread(target=way, daemon=True).start()
    async for _ in websocket.iter_text():
        pass


app.run()
"""
