"""Messages between processes of one machine, with open files in them.

Each message is a JSON object and any files that go with it. Sending and receiving block: a
message is sent whole as soon as it is begun, so whoever finds its beginning has its end soon.
"""

import array
import contextlib
import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

#: How many files one message may carry; Linux allows 253.
MAX_FILES: Final = 250
_HEADER = struct.Struct("!II")
_FILE_BYTES: Final = array.array("i").itemsize
_MAX_BODY_BYTES: Final = 256 * 1024 * 1024


class PassingError(Exception):
    """The other process ended, or isn't one of ours."""


class Passing:
    """One end of a connected Unix stream socket."""

    def __init__(self, sock: socket.socket, *, timeout_s: float | None = None) -> None:
        """Take the socket over.

        Args:
            sock: The socket.
            timeout_s: How long one message may take to send or to come. None: for ever.
        """
        self._sock = sock
        self._timeout_s = timeout_s
        sock.settimeout(timeout_s)

    def fileno(self) -> int:
        """Return the descriptor, to wait on for the next message."""
        return self._sock.fileno()

    def send(self, message: Mapping[str, Any], files: Sequence[int] = ()) -> None:
        """Send a message; the files stay open here.

        Raises:
            PassingError: If the other process is gone.
        """
        body = json.dumps(message, separators=(",", ":")).encode()
        header = _HEADER.pack(len(body), len(files))
        # The files go with the header's first byte, so nothing may be cut off in front of them.
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        try:
            sent = self._sock.sendmsg([header], rights)
            self._sock.sendall(header[sent:] + body)
        except OSError as exc:
            raise PassingError(f"the other process doesn't listen: {exc}") from exc

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """Return the next message and its files, which are the caller's to close.

        Raises:
            PassingError: If there is no further one.
        """
        try:
            header, files = self._receive_header()
            size, count = _HEADER.unpack(header)
            if size > _MAX_BODY_BYTES or count != len(files):
                close_all(files)
                raise PassingError("what came isn't a message of ours")
            try:
                return json.loads(self._read(size)), files
            except BaseException:
                close_all(files)
                raise
        except (OSError, ValueError) as exc:
            raise PassingError(f"no whole message came: {exc}") from exc

    def hear_the_last(self) -> bool:
        """Have every further message of the other end fail; tell whether one is here already."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        return False

    def _receive_header(self) -> tuple[bytes, list[int]]:
        data, ancillary, _, _ = self._sock.recvmsg(
            _HEADER.size, socket.CMSG_SPACE(MAX_FILES * _FILE_BYTES), socket.MSG_CMSG_CLOEXEC
        )
        files = array.array("i")
        for level, kind, rights in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                files.frombytes(rights[: len(rights) - len(rights) % _FILE_BYTES])
        if not data:
            raise PassingError("the other process closed the connection")
        try:
            return data + self._read(_HEADER.size - len(data)), list(files)
        except BaseException:
            close_all(files)
            raise

    def _read(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self._sock.recv(size - len(parts))
            if not part:
                raise PassingError("the other process ended inside a message")
            parts += part
        return bytes(parts)

    def close(self) -> None:
        """Close this end. Twice is fine."""
        self._sock.close()


def close_all(files: Sequence[int]) -> None:
    """Close descriptors that came with a message."""
    for file in files:
        os.close(file)
