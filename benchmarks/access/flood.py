"""Sends bad tokens, each another, as fast as it is told to, and counts the answers.

Run as ``python -m benchmarks.access.flood PORT TOKEN PER_S``. It reads requests as lines of JSON:
``{"do": "go"}``, ``{"do": "pause"}``; the second is answered with what was sent and what came back.
It builds requests by joining bytes and reads answers by looking for status lines, so that it takes
little of the machine, and it gives way to everybody: an attacker's processors are elsewhere.
"""

import contextlib
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
_MOST_AT_ONCE: Final = 64
_STATUS: Final = re.compile(rb"HTTP/1\.1 ([0-9]{3})")
_PADDING: Final = 22


class Sender:
    """One connection after the other, with as many requests in flight as it takes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._left = b""

    def send(self, requests: bytes, counts: Counter[str]) -> bool:
        """Send requests if there is room for them; tell whether they were taken."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port))
            self._socket.setblocking(False)
            counts["connections"] += 1
        try:
            if self._left:
                self._left = self._left[self._socket.send(self._left) :]
                return False
            self._left = requests[self._socket.send(requests) :]
        except BlockingIOError:
            return False
        except OSError:
            self.close()
            return False
        return True

    def receive(self, counts: Counter[str]) -> None:
        """Take what was answered."""
        if self._socket is None:
            return
        try:
            while answers := self._socket.recv(256 * 1024):
                counts.update(status.decode() for status in _STATUS.findall(answers))
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """Close what there is; the next one is opened when it is needed."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._left = None, b""


def requests_like(token: str) -> tuple[bytes, bytes]:
    """Return what stands before and behind the part of a signature that is always another."""
    signed, _, signature = token.rpartition(".")
    before = (
        "GET /api/projects/default/agents?api-version=v1 HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {signed}."
    )
    return before.encode(), f"{signature[_PADDING:]}\r\n\r\n".encode()


def main() -> None:
    port, token, per_s = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    os.nice(10)
    before, behind = requests_like(token)
    senders = [Sender(port) for _ in range(CONNECTIONS)]
    counts: Counter[str] = Counter()
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    number, due, is_on = 0, 0.0, False
    last = time.monotonic()
    while True:
        if selector.select(_TICK_S):
            line = sys.stdin.readline()
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
            if not is_on or not share:
                continue
            some = b"".join(
                b"%b%0*d%b" % (before, _PADDING, number + each, behind) for each in range(share)
            )
            with contextlib.suppress(OSError):
                if sender.send(some, counts):
                    number += share
                    due -= share
                    counts["sent"] += share


if __name__ == "__main__":
    main()
