"""The compiled pump between real sockets: the same bytes, the same counts as the scanner's."""

import contextlib
import itertools
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from trunkline.gateway._pump import Pump
from trunkline.protocol.close import encode_close
from trunkline.protocol.frames import FrameScanner

LIMIT = 70_000
WAIT_S = 10.0


class Rig:
    """A pair of sockets in the pump, and the far ends a test talks through."""

    def __init__(
        self,
        pump: Pump,
        *,
        ends: tuple[socket.socket, socket.socket] | None = None,
        left: int = 0,
        send_buffer: int = 0,
    ) -> None:
        self.pump = pump
        # What was told of a pair that has been taken back may still be there to read.
        pump.take_out()
        self.client, self.downstream = ends or socket.socketpair()
        self.upstream, self.agent = socket.socketpair()
        for sock in (self.downstream, self.upstream):
            sock.setblocking(False)
            if send_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        for sock in (self.client, self.agent):
            sock.settimeout(WAIT_S)
        self.number = pump.add((self.downstream.fileno(), left, 0, 0), self._plain(self.upstream))

    @staticmethod
    def _plain(sock: socket.socket) -> tuple[int, int, int, int]:
        return sock.fileno(), 0, 0, 0

    def read(self, size: int) -> bytes:
        """Read that many bytes as the agent."""
        got = bytearray()
        while len(got) < size:
            part = self.agent.recv(size - len(got))
            assert part, "the stream ended"
            got += part
        return bytes(got)

    def downstream_recv(self) -> bytes:
        """Read as the relay would that took the pair back."""
        assert select.select([self.downstream], [], [], WAIT_S)[0]
        return self.downstream.recv(65536)

    def send(self, data: bytes) -> bytes:
        """Send as the client, and return what the agent gets meanwhile.

        How much all buffers hold depends on how the pump's reads were cut. Who only sends may wait
        for somebody to read.
        """
        received, left = b"", memoryview(data)
        while left:
            readable, writable, _ = select.select([self.agent], [self.client], [], WAIT_S)
            assert readable or writable, "nothing moves"
            if readable:
                received += drained(self.agent)
            if writable:
                left = left[self.client.send(left) :]
        return received

    def fill(self, block: bytes) -> int:
        """Send a block over and over until nothing moves, and return how many bytes went."""
        sent, is_full = 0, False
        deadline = time.monotonic() + WAIT_S
        self.client.setblocking(False)
        while not is_full:
            assert time.monotonic() < deadline, "it takes everything"
            # A pump that waits for its reader reads no more.
            is_stuck = self.pump.counters(self.number)[0][2] > 0
            try:
                sent += self.client.send(block[sent % len(block) :])
            except BlockingIOError:
                is_full = is_stuck
        self.client.settimeout(WAIT_S)
        return sent

    def wait_out(self) -> None:
        readable, _, _ = select.select([self.pump], [], [], WAIT_S)
        assert readable, "the pump kept the pair"
        assert self.pump.take_out() == [self.number]

    def close(self) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self.pump.remove(self.number)
        for sock in (self.client, self.downstream, self.upstream, self.agent):
            sock.close()


@pytest.fixture(scope="module")
def pump() -> Iterator[Pump]:
    pump = Pump(max_frame_bytes=LIMIT, read_bytes=65536)
    yield pump
    pump.close()


@pytest.fixture
def rig(pump: Pump) -> Iterator[Rig]:
    rig = Rig(pump)
    yield rig
    rig.close()


def frame(payload: bytes, *, opcode: int = 2, masked: bool = True) -> bytes:
    mask_bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, mask_bit | size))
    elif size < 65536:
        head = bytes((0x80 | opcode, mask_bit | 126)) + size.to_bytes(2)
    else:
        head = bytes((0x80 | opcode, mask_bit | 127)) + size.to_bytes(8)
    return head + (b"\1\2\3\4" if masked else b"") + payload


frames = st.lists(
    st.builds(
        frame,
        st.one_of(
            st.binary(max_size=300),
            st.sampled_from([0, 125, 126, 127, 65535, 65536, LIMIT]).map(bytes),
        ),
        opcode=st.sampled_from([0, 1, 2, 9, 10]),
        masked=st.booleans(),
    ),
    max_size=6,
)
endings = st.one_of(
    st.just(b""),
    st.just(frame(b"", opcode=8)),
    st.just(encode_close(4000, "bye", mask=b"abcd")),
    st.just(b"\x82\xff" + (LIMIT + 1).to_bytes(8) + b"abcd"),
    st.just(b"\x82\xff" + b"\xff" * 8),
    st.just(b"\x82"),
    st.just(b"\x82\xfe\x01"),
    st.just(b"\x82\xff\0\0\0\0\0\0\1"),
    st.binary(max_size=40),
)


def drained(sock: socket.socket) -> bytes:
    got = bytearray()
    with contextlib.suppress(BlockingIOError):
        # Not sock.recv(): with a timeout it waits.
        while part := os.read(sock.fileno(), 1 << 20):
            got += part
    return bytes(got)


def pumped(rig: Rig, parts: list[bytes]) -> tuple[bytes, FrameScanner]:
    """Send parts one by one; return what reached the agent, then a scanner that went on."""
    received, sent, is_out = b"", 0, False
    for part in parts:
        received += rig.send(part)
        sent += len(part)
        deadline = time.monotonic() + WAIT_S
        while rig.pump.counters(rig.number)[0][1] < sent and not is_out:
            assert time.monotonic() < deadline, "the pump doesn't read"
            # It may read without a sign: the beginning of a header goes nowhere.
            select.select([rig.agent, rig.pump], [], [], 0.001)
            received += drained(rig.agent)
            is_out = rig.number in rig.pump.take_out()
        if is_out:
            break
    (frames, count, left, rest, unsent, controls), _ = rig.pump.remove(rig.number)
    received += drained(rig.agent) + unsent
    scanner = FrameScanner(LIMIT)
    scanner.skip(frames, left)
    scanner.controls = controls
    received += scanner.feed(rest)
    received += scanner.feed(b"".join(parts)[count + len(rest) :])
    return received, scanner


@settings(max_examples=60, deadline=None)
@given(frames, endings, st.data())
def test_it_follows_frames_as_the_scanner_does(
    pump: Pump, sent_frames: list[bytes], ending: bytes, data: st.DataObject
) -> None:
    stream = b"".join(sent_frames) + ending
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    edges = [0, *cuts, len(stream)]
    parts = [stream[one:other] for one, other in itertools.pairwise(edges)]
    scanner = FrameScanner(LIMIT)
    expected = b"".join(scanner.feed(part) for part in parts)
    rig = Rig(pump)
    try:
        received, other = pumped(rig, [part for part in parts if part])
    finally:
        rig.close()
    assert received == expected
    assert (other.frames, other.controls, other.left, other.close, other.oversize_bytes) == (
        scanner.frames, scanner.controls, scanner.left, scanner.close, scanner.oversize_bytes
    )  # fmt: skip


def test_both_directions_are_carried_and_counted(rig: Rig) -> None:
    there = frame(b"x" * 640)
    rig.client.sendall(there * 3)
    assert rig.read(len(there) * 3) == there * 3
    rig.agent.sendall(frame(b"z", masked=False))
    assert rig.client.recv(100) == frame(b"z", masked=False)
    assert rig.pump.counters(rig.number) == ((3, 3 * len(there), 0, 0), (1, 3, 0, 0))


def test_it_goes_on_inside_a_frame(pump: Pump) -> None:
    rig = Rig(pump, left=10)
    # Whatever these bytes look like, they are the end of a payload.
    rig.client.sendall(b"\x88\x82" + b"p" * 8 + frame(b"q"))
    assert rig.read(10 + len(frame(b"q")))[10:] == frame(b"q")
    assert rig.pump.counters(rig.number)[0][0] == 1
    rig.close()


def test_urgent_data_holds_nothing_up(pump: Pump) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        downstream, _ = server.accept()
    client.sendall(frame(b"before"))
    client.send(b"!", socket.MSG_OOB)
    client.sendall(frame(b"after"))
    # A read stops before that byte, and nothing more comes to tell the pump of.
    rig = Rig(pump, ends=(client, downstream))
    both = frame(b"before") + frame(b"after")
    assert rig.read(len(both)) == both
    rig.close()


def test_an_end_of_stream_gives_the_pair_back(rig: Rig) -> None:
    rig.client.sendall(frame(b"last"))
    rig.client.close()
    rig.wait_out()
    assert rig.read(len(frame(b"last"))) == frame(b"last")
    taken, _ = rig.pump.remove(rig.number)
    assert taken == (1, len(frame(b"last")), 0, b"", b"", 0)
    assert rig.downstream.recv(10) == b""


def test_a_reader_that_takes_nothing_stops_the_sender(pump: Pump) -> None:
    rig = Rig(pump, send_buffer=4096)
    block = frame(b"x" * 60_000)
    sent = rig.fill(block)
    assert sent < 8 * 2**20
    (_, taken_in, waiting, _), _ = pump.counters(rig.number)
    assert 0 < waiting <= 65536
    received = bytearray()
    while len(received) < sent:
        received += rig.read(min(65536, sent - len(received)))
    assert bytes(received) == (block * (sent // len(block) + 1))[:sent]
    assert pump.counters(rig.number)[0][1] == sent > taken_in
    rig.client.sendall(block[sent % len(block) :] + frame(b"and on"))
    assert rig.read(len(block) - sent % len(block) + len(frame(b"and on"))).endswith(b"and on")
    assert pump.counters(rig.number)[0][2] == 0
    rig.close()


def test_what_waits_for_a_slow_reader_is_given_back(pump: Pump) -> None:
    rig = Rig(pump, send_buffer=4096)
    rig.client.setblocking(False)
    sent = bytearray()
    block = frame(b"x" * 60_000)
    deadline = time.monotonic() + WAIT_S
    while not pump.counters(rig.number)[0][2]:
        assert time.monotonic() < deadline
        with contextlib.suppress(BlockingIOError):
            at = len(sent) % len(block)
            sent += block[at : at + rig.client.send(block[at:])]
    (frames, count, left, rest, unsent, _), _ = pump.remove(rig.number)
    assert rest == b""
    assert drained(rig.agent) + unsent == bytes(sent[:count])
    scanner = FrameScanner(LIMIT)
    scanner.feed(bytes(sent[:count]))
    assert (scanner.frames, scanner.left) == (frames, left)
    rig.close()


def test_who_hangs_up_while_the_reader_takes_nothing_is_noticed(pump: Pump) -> None:
    rig = Rig(pump, send_buffer=4096)
    rig.fill(frame(b"x" * 60_000))
    rig.client.close()
    rig.wait_out()
    rig.close()


def test_a_reader_that_is_gone_gives_the_pair_back_with_what_it_missed(rig: Rig) -> None:
    rig.agent.close()
    rig.wait_out()
    rig.client.sendall(frame(b"x"))
    assert rig.pump.remove(rig.number)[0][:2] == (0, 0)
    assert rig.downstream.recv(100) == frame(b"x")


def test_a_pair_is_told_once_and_taken_back_once(rig: Rig) -> None:
    rig.client.sendall(frame(b"", opcode=8))
    rig.wait_out()
    assert rig.pump.take_out() == []
    assert rig.pump.remove(rig.number)[0][3] == frame(b"", opcode=8)
    with pytest.raises(KeyError):
        rig.pump.remove(rig.number)
    with pytest.raises(KeyError):
        rig.pump.counters(rig.number)


def test_taking_back_is_not_told_of(rig: Rig) -> None:
    rig.client.sendall(frame(b"", opcode=8))
    select.select([rig.pump], [], [], WAIT_S)
    rig.pump.remove(rig.number)
    assert rig.pump.take_out() == []


def test_a_number_is_not_used_again(pump: Pump) -> None:
    numbers = set()
    for _ in range(5):
        rig = Rig(pump)
        numbers.add(rig.number)
        rig.close()
    assert len(numbers) == 5


def test_what_is_no_socket_is_refused_and_nothing_is_kept(pump: Pump) -> None:
    one, other = socket.socketpair()
    with pytest.raises(OSError, match="Bad file descriptor"):
        pump.add((one.fileno(), 0, 0, 0), (999_999, 0, 0, 0))
    number = pump.add((one.fileno(), 0, 0, 0), (other.fileno(), 0, 0, 0))
    pump.remove(number)
    one.close()
    other.close()


def test_closing_twice_is_fine_and_using_it_then_is_not() -> None:
    threads = len(threading.enumerate())
    pump = Pump(max_frame_bytes=LIMIT, read_bytes=1024)
    rig = Rig(pump)
    pump.close()
    pump.close()
    for use in (pump.take_out, pump.fileno, lambda: pump.counters(rig.number)):
        with pytest.raises(ValueError, match="closed"):
            use()
    rig.close()
    assert len(threading.enumerate()) == threads


def pump_threads() -> set[int]:
    return {
        int(thread)
        for thread in os.listdir("/proc/self/task")
        if Path(f"/proc/self/task/{thread}/comm").read_text() == "trunkline-pump\n"
    }


def can_be_realtime() -> bool:
    """Try it with a thread, so that nothing else is touched."""
    could: list[bool] = []

    def attempt() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        except PermissionError:
            could.append(False)
        else:
            could.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return could[0]


class RealtimePump:
    """A pump of a test's own, whose thread it knows; it and its rivals have one processor."""

    def __init__(self, share: float, *, realtime_s: float = 60) -> None:
        before = pump_threads()
        self.rig = Rig(
            Pump(
                max_frame_bytes=LIMIT,
                read_bytes=65536,
                realtime_share=share,
                realtime_s=realtime_s,
            )
        )
        # A thread has its name a moment after it was made.
        deadline = time.monotonic() + WAIT_S
        while not (made := pump_threads() - before):
            assert time.monotonic() < deadline
        (self.thread,) = made
        self._processor = {max(os.sched_getaffinity(0))}
        os.sched_setaffinity(self.thread, self._processor)

    @contextlib.contextmanager
    def rivals(self) -> Iterator[None]:
        """Have the pump wait for its processor."""
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                rival = stack.enter_context(subprocess.Popen(["sh", "-c", "while :; do :; done"]))
                stack.callback(rival.kill)
                os.sched_setaffinity(rival.pid, self._processor)
            yield

    def carry(self) -> None:
        self.rig.client.sendall(frame(b"0123456789"))
        self.rig.read(len(frame(b"0123456789")))

    @property
    def policy(self) -> int:
        return os.sched_getscheduler(self.thread)

    def carry_until(self, policy: int, pause_s: float) -> None:
        deadline = time.monotonic() + WAIT_S
        while self.policy != policy:
            assert time.monotonic() < deadline, f"it stays at {self.policy}"
            self.carry()
            time.sleep(pause_s)

    def go_first(self) -> None:
        """Have it be late until it goes first, if it may."""
        with self.rivals():
            if can_be_realtime():
                self.carry_until(os.SCHED_RR, pause_s=0.02)
            else:
                self.carry_on_as_ordinary()

    def carry_on_as_ordinary(self) -> None:
        for _ in range(20):
            self.carry()
            assert self.policy == os.SCHED_OTHER

    def close(self) -> None:
        self.rig.close()
        self.rig.pump.close()


def test_when_others_make_it_late_it_goes_before_them_if_it_may() -> None:
    with contextlib.closing(RealtimePump(0.5)) as pump:
        pump.go_first()


def test_it_never_goes_before_others_if_it_is_told_so() -> None:
    with contextlib.closing(RealtimePump(0)) as pump, pump.rivals():
        pump.carry_on_as_ordinary()


def test_it_is_an_ordinary_thread_again_after_a_while() -> None:
    with contextlib.closing(RealtimePump(0.5, realtime_s=0.2)) as pump:
        pump.go_first()
        pump.carry_until(os.SCHED_OTHER, pause_s=0.02)


def test_it_is_an_ordinary_thread_while_it_needs_more_than_its_share() -> None:
    # By itself it would keep the priority for a minute.
    with contextlib.closing(RealtimePump(0.02)) as pump:
        pump.go_first()
        pump.carry_until(os.SCHED_OTHER, pause_s=0)
        pump.go_first()


def test_it_carries_every_frame_while_it_lets_them_gather() -> None:
    with contextlib.closing(RealtimePump(1)) as pump:
        pump.go_first()
        for _ in range(300):
            pump.carry()


def test_pairs_come_and_go_under_traffic_and_no_byte_is_lost(pump: Pump) -> None:
    rig = Rig(pump)
    block = frame(b"0123456789" * 60)
    count = 3000

    def send() -> None:
        for _ in range(count):
            rig.client.sendall(block)

    sending = threading.Thread(target=send)
    sending.start()
    received = bytearray()
    frames_seen = 0
    while len(received) < count * len(block):
        received += drained(rig.agent)
        (frames, bytes_in, left, rest, unsent, _), other = pump.remove(rig.number)
        received += drained(rig.agent) + unsent
        # Go on as the relay would: what was cut off is followed again.
        scanner = FrameScanner(LIMIT)
        scanner.skip(frames, left)
        received += scanner.feed(rest)
        if not scanner.is_plain:
            while not scanner.is_plain:
                more = rig.downstream_recv()
                received += scanner.feed(more)
                bytes_in += len(more)
        frames_seen = scanner.frames
        rig.number = pump.add(
            (rig.downstream.fileno(), scanner.left, scanner.frames, bytes_in + len(rest)),
            (rig.upstream.fileno(), other[2], other[0], other[1]),
        )
    sending.join()
    assert bytes(received) == block * count
    assert frames_seen == count
    rig.close()
