"""Sends bad tokens, each another, as fast as it is told to, and counts the answers.

Run as ``python -m benchmarks.access.flood PORT PER_S``. It reads a good token, which the bad ones
resemble, as a line, and requests as lines of JSON:
``{"do": "go"}``, ``{"do": "pause"}``; the second is answered with what was sent and what came back.
It builds requests by joining bytes and reads answers by looking for status lines, so that it takes
little of the machine, and runs only while nobody else wants a processor: an attacker has others.
"""

import contextlib
import io
import json
import os
import re
import selectors
import socket
import sys
import time
from collections import Counter
from typing import Final

CONNECTIONS: Final = 16
_TICK_S: Final = 0.01
#: What the platform takes on one connection before it has answered (max_pipelined_requests).
_MOST_AT_ONCE: Final = 32
_STATUS: Final = re.compile(rb"HTTP/1\.1 ([0-9]{3})")
_PADDING: Final = 22


class Sender:
    """One connection after the other, each with a batch of requests in flight."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._left = b""
        self._waiting = 0

    @property
    def is_free(self) -> bool:
        """Whether what was sent before was answered."""
        return not self._waiting

    def send(self, requests: bytes, count: int, counts: Counter[str]) -> None:
        """Send a batch of requests."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port))
            self._socket.setblocking(False)
            counts["connections"] += 1
        self._waiting, self._left = count, requests
        self._push()

    def _push(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            while self._left:
                self._left = self._left[self._socket.send(self._left) :]

    def receive(self, counts: Counter[str]) -> None:
        """Take what was answered."""
        if self._socket is None:
            return
        try:
            self._push()
            while answers := self._socket.recv(256 * 1024):
                statuses = _STATUS.findall(answers)
                self._waiting -= len(statuses)
                counts.update(status.decode() for status in statuses)
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """Close what there is; the next one is opened when it is needed."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._left, self._waiting = None, b"", 0


def requests_like(token: str) -> tuple[bytes, bytes]:
    """Return what stands before and behind the part of a signature that is always another."""
    signed, _, signature = token.rpartition(".")
    before = (
        "GET /api/projects/default/agents?api-version=v1 HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {signed}."
    )
    return before.encode(), f"{signature[_PADDING:]}\r\n\r\n".encode()


def main() -> None:
    port, per_s = int(sys.argv[1]), float(sys.argv[2])
    # Unbuffered: what has come already is to be seen by the selector.
    told = io.FileIO(sys.stdin.fileno(), closefd=False)
    token = told.readline().decode().strip()
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    before, behind = requests_like(token)
    senders = [Sender(port) for _ in range(CONNECTIONS)]
    counts: Counter[str] = Counter()
    selector = selectors.DefaultSelector()
    selector.register(told, selectors.EVENT_READ)
    number, due, is_on = 0, 0.0, False
    last = time.monotonic()
    while True:
        if selector.select(_TICK_S):
            line = told.readline()
            if not line:
                return
            is_on = json.loads(line)["do"] == "go"
            sys.stdout.write(json.dumps({"counts": dict(counts)}) + "\n")
            sys.stdout.flush()
            counts.clear()
            due, last = 0.0, time.monotonic()
        now = time.monotonic()
        # What couldn't be sent in its time is left out: it would come as a burst.
        due, last = min(due + (now - last) * per_s, per_s / 10), now
        for sender in senders:
            sender.receive(counts)
            share = min(int(due), _MOST_AT_ONCE)
            if not is_on or not share or not sender.is_free:
                continue
            some = b"".join(
                b"%b%0*d%b" % (before, _PADDING, number + each, behind) for each in range(share)
            )
            try:
                sender.send(some, share, counts)
            except OSError:
                sender.close()
            number += share
            due -= share
            counts["sent"] += share


if __name__ == "__main__":
    main()
