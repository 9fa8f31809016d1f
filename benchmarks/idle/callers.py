"""Callers that are there, answer pings, and say something when they are told to.

Run with a port, a path, how many callers there are and among how many sessions they are spread. The
first line on standard input is their token. They come one after the other; a line on standard
output says that all are there. Then each line of JSON on standard input, ``{"every": N}``, has each
N-th of them ask, and is answered with how many were, and how many are gone. ``{"end": S}`` waits at
most so long for all of them to be closed, and is answered with what they were told.
"""

import contextlib
import io
import json
import select
import socket
import sys
import time
from collections import Counter
from typing import Any

from benchmarks.support.frames import HEAD_END, masked_frame, plain_frame, upgrade_head
from trunkline.protocol.close import encode_close

_QUESTION = masked_frame(b"still there?")
_ANSWER = plain_frame(b"still there?")
_PING = b"\x89\x00"
_PONG = b"\x8a\x80\0\0\0\0"
_CLOSE = b"\x88"
_TIMEOUT_S = 60.0
_EVENTS = 4096


class Callers:
    """Connections that rest."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._socks: dict[int, socket.socket] = {}
        self._rest: dict[int, bytes] = {}
        self.ended = 0
        #: By what each was told when it was closed.
        self._codes: Counter[int] = Counter()
        self._told_at = 0.0

    def add(self, port: int, head: bytes) -> None:
        """Make one more connection, with an upgrade's head."""
        sock = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
        sock.sendall(head)
        answer = b""
        while HEAD_END not in answer:
            piece = sock.recv(4096)
            answer += piece
            if not piece or not answer.startswith(b"HTTP/1.1 101 "):
                raise SystemExit(f"the upgrade was answered with {answer!r}")
        sock.setblocking(False)
        self._socks[sock.fileno()] = sock
        self._rest[sock.fileno()] = answer.partition(HEAD_END)[2]
        self._poll.register(sock, select.EPOLLIN)

    def look(self, wait_s: float) -> int:
        """Take what has come; return how many answers that were."""
        answers = 0
        for file, _ in self._poll.poll(wait_s, _EVENTS):
            sock = self._socks[file]
            try:
                data = sock.recv(4096)
            except ConnectionResetError:
                data = b""
            if not data:
                self.ended += 1
                self._poll.unregister(sock)
                continue
            rest = self._rest[file] + data
            while rest:
                if rest.startswith(_PING):
                    sock.send(_PONG)
                    rest = rest[len(_PING) :]
                elif rest.startswith(_ANSWER):
                    answers += 1
                    rest = rest[len(_ANSWER) :]
                elif rest.startswith(_CLOSE) and len(rest) >= 4 and len(rest) >= 2 + rest[1]:
                    self._take_close(sock, rest[2 : 2 + rest[1]])
                    rest = rest[2 + rest[1] :]
                elif _ANSWER.startswith(rest) or rest.startswith(_CLOSE):
                    break
                else:
                    raise SystemExit(f"neither a ping nor the answer: {rest!r}")
            self._rest[file] = rest
        return answers

    def _take_close(self, sock: socket.socket, payload: bytes) -> None:
        code = int.from_bytes(payload[:2])
        self._codes[code] += 1
        self._told_at = time.monotonic()
        # Both write at once if the platform has just given up waiting.
        with contextlib.suppress(OSError):
            sock.send(encode_close(code, mask=bytes(4)))

    def until_ended(self, limit_s: float) -> dict[str, Any]:
        """Wait until all of them are closed, at most so long."""
        deadline = time.monotonic() + limit_s
        while self.ended < len(self._socks) and time.monotonic() < deadline:
            self.look(0.1)
        return {"codes": self._codes, "told_at": self._told_at, "ended": self.ended}

    def ask(self, every: int) -> dict[str, int]:
        """Have some of them ask, and wait for the answers."""
        asked = list(self._socks.values())[::every]
        for sock in asked:
            sock.send(_QUESTION)
        answered, deadline = 0, time.monotonic() + _TIMEOUT_S
        while answered < len(asked) and time.monotonic() < deadline:
            answered += self.look(0.1)
        return {"asked": len(asked), "answered": answered, "ended": self.ended}


def main() -> None:
    port, path, count, sessions = sys.argv[1:]
    # Unbuffered: what has come already is to be seen by the poll.
    stdin = io.FileIO(sys.stdin.fileno(), closefd=False)
    token = stdin.readline().decode().strip()
    callers = Callers()
    heads = [
        upgrade_head(
            f"{path}&agent_session_id=idle-{number}",
            {"Authorization": f"Bearer {token}"},
        )
        for number in range(int(sessions))
    ]
    for number in range(int(count)):
        callers.add(int(port), heads[number % len(heads)])
        callers.look(0)
    print(json.dumps({"open": int(count)}), flush=True)
    told = select.poll()
    told.register(stdin, select.POLLIN)
    while True:
        callers.look(0.05)
        if told.poll(0):
            # Whoever asks waits for the answer, so there is one line at most.
            line = stdin.readline()
            if not line:
                return
            told_to = json.loads(line)
            if "end" in told_to:
                print(json.dumps(callers.until_ended(told_to["end"])), flush=True)
            else:
                print(json.dumps(callers.ask(told_to["every"])), flush=True)


if __name__ == "__main__":
    main()
