"""Messages and open files between two ends of a Unix socket."""

import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from trunkline.aio.passing import MAX_FILES, Passing, PassingError, close_all


@pytest.fixture
def ends() -> Iterator[tuple[Passing, Passing]]:
    a, b = (Passing(sock, timeout_s=10) for sock in socket.socketpair())
    yield a, b
    a.close()
    b.close()


def test_messages_come_one_by_one_in_order(ends: tuple[Passing, Passing]) -> None:
    a, b = ends
    for number in range(3):
        a.send({"n": number, "text": "ä" * number})
    assert [b.receive() for _ in range(3)] == [({"n": n, "text": "ä" * n}, []) for n in range(3)]


def test_files_come_with_their_message_and_are_open(ends: tuple[Passing, Passing]) -> None:
    a, b = ends
    reading, writing = os.pipe()
    a.send({"which": "first"})
    a.send({"which": "second"}, [writing])
    a.send({"which": "third"})
    os.close(writing)
    assert b.receive() == ({"which": "first"}, [])
    message, (file,) = b.receive()
    assert message == {"which": "second"}
    assert not os.get_inheritable(file)
    os.write(file, b"through it")
    assert os.read(reading, 100) == b"through it"
    os.close(file)
    assert b.receive() == ({"which": "third"}, [])
    # Nobody has kept a copy.
    assert os.read(reading, 100) == b""
    os.close(reading)


def test_as_many_files_as_may(ends: tuple[Passing, Passing]) -> None:
    a, b = ends
    a.send({}, [0] * MAX_FILES)
    _, files = b.receive()
    assert len(files) == MAX_FILES
    close_all(files)


def test_a_message_larger_than_the_sockets_buffer(ends: tuple[Passing, Passing]) -> None:
    a, b = ends
    text = "x" * 4_000_000
    sending = threading.Thread(target=a.send, args=({"text": text},))
    sending.start()
    assert b.receive()[0]["text"] == text
    sending.join()


@pytest.mark.parametrize(
    "sent",
    [b"", b"\0\0", struct.pack("!II", 10, 0) + b"{}", struct.pack("!II", 2, 1) + b"{}",
     struct.pack("!II", 0xFFFFFFFF, 0), struct.pack("!II", 2, 0) + b"{]"],
    ids=["nothing", "half a header", "half a body", "no file", "absurd length", "no JSON"],
)  # fmt: skip
def test_what_is_no_whole_message(sent: bytes) -> None:
    raw, end = socket.socketpair()
    with raw:
        raw.sendall(sent)
    passing = Passing(end, timeout_s=10)
    with pytest.raises(PassingError):
        passing.receive()
    passing.close()


def test_sending_to_nobody(ends: tuple[Passing, Passing]) -> None:
    a, b = ends
    b.close()
    with pytest.raises(PassingError):
        a.send({})


def test_who_listens_no_more_knows_whether_something_was_said_before(
    ends: tuple[Passing, Passing],
) -> None:
    a, b = ends
    assert not a.hear_the_last()
    with pytest.raises(PassingError):
        b.send({"too": "late"})


def test_what_was_said_just_before_is_heard(ends: tuple[Passing, Passing]) -> None:
    a, b = ends
    b.send({"just": "in time"})
    assert a.hear_the_last()
    with pytest.raises(PassingError):
        b.send({"too": "late"})
    assert a.receive() == ({"just": "in time"}, [])


def test_a_file_that_came_with_the_beginning_of_a_header_is_closed() -> None:
    one, other = socket.socketpair()
    reading, writing = os.pipe()
    with one, other:
        socket.send_fds(one, [b"\0"], [writing])
        os.close(writing)
        one.close()
        with pytest.raises(PassingError, match="inside a message"):
            Passing(other).receive()
        # At its end once nobody can write to it any more.
        os.set_blocking(reading, False)
        assert os.read(reading, 1) == b""
    os.close(reading)
