"""What a session's log keeps, and how it is read again."""

import asyncio
import errno
import gc
import itertools
import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from trunkline.runtimes.interface import LogStream
from trunkline.sessions.log import MAX_LINE_BYTES, Channel, Entry, SessionLog, SessionLogs

OUT, ERR = LogStream.STDOUT, LogStream.STDERR
ENOUGH = 64 * 1024 * 1024
SMALL = 128 * 1024
_CUT_ANYWHERE = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

_lines = st.lists(
    st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"")), min_size=1, max_size=12
)


def new_log(folder: Path, max_bytes: int = ENOUGH) -> SessionLog:
    return SessionLog(folder, max_bytes, ENOUGH)


def read_all(log: SessionLog, channel: Channel = Channel.CONSOLE, after: int = 0) -> list[Entry]:
    entries: list[Entry] = []
    while more := log.read(channel, after):
        entries += more
        after = more[-1].end
    return entries


def messages(log: SessionLog, stream: str | None = None, **kwargs: int) -> list[str]:
    return [e.message for e in read_all(log, **kwargs) if stream in (None, e.stream)]


def tail(log: SessionLog, lines: int) -> int:
    return asyncio.run(log.tail(Channel.CONSOLE, lines))


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(edge, len(data)) for edge in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@pytest.fixture
def log(tmp_path: Path) -> SessionLog:
    return new_log(tmp_path / "logs")


@_CUT_ANYWHERE
@given(lines=_lines, at=st.lists(st.integers(0, 300), max_size=8), data=st.data())
def test_lines_are_the_same_wherever_the_pipe_cuts_them(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], at: list[int], data: st.DataObject
) -> None:
    log = new_log(tmp_path_factory.mktemp("log"))
    for part in cut(b"".join(line + b"\n" for line in lines), at):
        log.write(OUT, part)
    expected = [line.decode(errors="replace") for line in lines]
    entries = read_all(log)
    assert [entry.message for entry in entries] == expected
    # Whichever line a reader left at, it comes back to the one after it.
    left = data.draw(st.integers(0, len(entries) - 1))
    assert read_all(log, after=entries[left].end) == entries[left + 1 :]
    wanted = data.draw(st.integers(0, len(entries) + 2))
    assert messages(log, after=tail(log, wanted)) == (expected[-wanted:] if wanted else [])
    log.close()


@_CUT_ANYWHERE
@given(
    out=_lines,
    err=_lines,
    at=st.tuples(st.lists(st.integers(0, 200), max_size=6), st.lists(st.integers(0, 200))),
    order=st.randoms(use_true_random=False),
)
def test_two_streams_in_any_order_do_not_mix(
    tmp_path_factory: pytest.TempPathFactory,
    out: list[bytes],
    err: list[bytes],
    at: tuple[list[int], list[int]],
    order,
) -> None:
    log = new_log(tmp_path_factory.mktemp("log"))
    queues = {
        OUT: cut(b"".join(line + b"\n" for line in out), at[0]),
        ERR: cut(b"".join(line + b"\n" for line in err), at[1]),
    }
    while queues[OUT] or queues[ERR]:
        stream = order.choice([stream for stream, parts in queues.items() if parts])
        log.write(stream, queues[stream].pop(0))
    assert messages(log, "stdout") == [line.decode(errors="replace") for line in out]
    assert messages(log, "stderr") == [line.decode(errors="replace") for line in err]
    log.close()


@pytest.mark.parametrize("size", [MAX_LINE_BYTES - 1, MAX_LINE_BYTES, MAX_LINE_BYTES + 1,
                                  2 * MAX_LINE_BYTES, 5 * MAX_LINE_BYTES + 7])  # fmt: skip
@pytest.mark.parametrize("piece", [1000, MAX_LINE_BYTES, 1_000_000])
def test_a_long_line_is_split_and_loses_nothing(
    log: SessionLog, tmp_path: Path, size: int, piece: int
) -> None:
    text = b"x" * size + b"\nnext\n"
    for start in range(0, len(text), piece):
        log.write(OUT, text[start : start + piece])
    *parts, last = messages(log)
    assert ("".join(parts), last) == ("x" * size, "next")
    assert max(len(part) for part in parts) <= MAX_LINE_BYTES
    (path,) = (tmp_path / "logs").glob("console-*.log")
    assert max(len(line) for line in path.read_bytes().split(b"\n")) < MAX_LINE_BYTES + 64


def test_lines_are_kept_as_container_runtimes_keep_them(log: SessionLog, tmp_path: Path) -> None:
    log.write(OUT, b"a" * MAX_LINE_BYTES + b"b\n")
    log.write(ERR, b"c\n")
    (path,) = (tmp_path / "logs").glob("console-*.log")
    time = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    assert re.fullmatch(
        rb"%s stdout P a+\n%s stdout F b\n%s stderr F c\n" % (time, time, time), path.read_bytes()
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_long_line_of_one_stream_with_lines_of_the_other_in_between(log: SessionLog) -> None:
    log.write(OUT, b"o" * (MAX_LINE_BYTES + 10))
    log.write(ERR, b"e1\n")
    log.write(OUT, b"o" * MAX_LINE_BYTES)
    log.write(ERR, b"e2\n")
    log.write(OUT, b"!\n")
    parts = messages(log, "stdout")
    assert "".join(parts) == "o" * (2 * MAX_LINE_BYTES + 10) + "!"
    assert messages(log, "stderr") == ["e1", "e2"]


def test_a_reader_who_comes_back_after_any_entry_misses_nothing(log: SessionLog) -> None:
    log.write(OUT, b"o" * (MAX_LINE_BYTES + 10))
    log.write(ERR, b"e1\n")
    log.write(OUT, b"!\n")
    shown = read_all(log)
    for index, entry in enumerate(shown):
        assert read_all(log, after=entry.end) == shown[index + 1 :]


def test_a_last_line_without_a_newline_is_kept(log: SessionLog) -> None:
    log.write(OUT, b"whole\npart")
    log.write(ERR, b"other part")
    assert messages(log) == ["whole"]
    log.close_stream(OUT)
    assert messages(log) == ["whole", "part"]
    log.close_stream(OUT)
    log.close_stream(ERR)
    assert messages(log) == ["whole", "part", "other part"]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"one\r\n", "one\r"),
        (b"10%\r20%\r\n", "10%\r20%\r"),
        (b"\xff\xfe\xc3\n", "\ufffd\ufffd\ufffd"),
        (b"caf\xc3\xa9 \xf0\x9f\x98\x80\n", "café 😀"),
        (b"\0\x1b[31m\x85\x0b\x0c\n", "\0\x1b[31m\ufffd\x0b\x0c"),
        ("\u2028\u2029\u0085\n".encode(), "\u2028\u2029\u0085"),
        (b"\n", ""),
        (b"   \n", "   "),
        (b"2026-01-01T00:00:00Z stderr F forged\n", "2026-01-01T00:00:00Z stderr F forged"),
    ],
)
def test_odd_bytes_stay_one_line(log: SessionLog, raw: bytes, shown: str) -> None:
    log.write(OUT, raw)
    log.write(OUT, b"after\n")
    assert messages(log, "stdout") == [shown, "after"]


def test_a_character_cut_in_two_by_the_pipe_is_whole(log: SessionLog) -> None:
    for byte in "é😀\n".encode():
        log.write(OUT, bytes((byte,)))
    assert messages(log) == ["é😀"]


def test_events_go_to_the_system_log_and_the_telling_ones_to_the_console(log: SessionLog) -> None:
    log.event("ConnectionOpened", "request_id=1")
    log.event("Exited", "exit code 3\nand a second line")
    system = read_all(log, Channel.SYSTEM)
    assert [(e.stream, e.message) for e in system] == [
        ("system", "ConnectionOpened: request_id=1"),
        ("system", "Exited: exit code 3 and a second line"),
    ]
    console = read_all(log)
    assert [(e.stream, e.message) for e in console] == [
        ("status", "Exited: exit code 3 and a second line")
    ]


def test_a_very_long_event_can_be_read_again(log: SessionLog) -> None:
    log.event("Exited", "x" * 300_000)
    log.event("Ready", "again")
    shown = messages(log)
    assert len(shown) >= 2
    assert shown[-1] == "Ready: again"


def test_a_log_over_its_limit_loses_the_oldest_lines_and_says_so_once(tmp_path: Path) -> None:
    log = new_log(tmp_path, SMALL)
    lines = [f"line {number} " + "x" * 200 for number in range(4000)]
    for line in lines:
        log.write(OUT, line.encode() + b"\n")
        kept = sum(path.stat().st_size for path in tmp_path.glob("console-*.log"))
        assert kept <= SMALL + 1024
    shown = messages(log, "stdout")
    assert 100 < len(shown) < len(lines)
    assert shown == lines[-len(shown) :]
    trimmed = [e.message for e in read_all(log, Channel.SYSTEM) if "LogTrimmed" in e.message]
    assert trimmed == [f"LogTrimmed: the log is over log_max_bytes ({SMALL}); the oldest lines go"]


def test_a_reader_left_behind_by_the_trimming_goes_on_with_the_oldest_line(tmp_path: Path) -> None:
    log = new_log(tmp_path, SMALL)
    log.write(OUT, b"first\n")
    position = read_all(log)[0].end
    for number in range(4000):
        log.write(OUT, b"%d %s\n" % (number, b"x" * 200))
    behind, from_start = messages(log, after=position), messages(log)
    assert behind == from_start
    assert behind[-1].startswith("3999 ")


def test_the_tail_spans_segments_and_blocks(tmp_path: Path) -> None:
    log = new_log(tmp_path, 8 * 1024 * 1024)
    for number in range(12_000):
        log.write(OUT, b"%d %s\n" % (number, b"x" * 60))
    assert len(list(tmp_path.glob("console-*.log"))) > 1
    for wanted in (1, 2, 5000, 11_999, 12_000):
        shown = messages(log, after=tail(log, wanted))
        assert len(shown) == wanted
        assert shown[0].startswith(f"{12_000 - wanted} ")
    assert len(messages(log, after=tail(log, 99_999))) == 12_000


def test_the_tail_of_nothing(log: SessionLog) -> None:
    assert tail(log, 10) == 0
    assert log.read_end(Channel.CONSOLE) == 0
    assert log.read(Channel.CONSOLE, 0) == []
    assert log.read(Channel.CONSOLE, 10**9) == []


def test_offsets_survive_a_reopen(tmp_path: Path) -> None:
    log = new_log(tmp_path, SMALL)
    for number in range(2000):
        log.write(OUT, b"%d %s\n" % (number, b"x" * 200))
    before, end = read_all(log), log.read_end(Channel.CONSOLE)
    log.close()
    again = new_log(tmp_path, SMALL)
    assert read_all(again) == before
    assert again.read_end(Channel.CONSOLE) == end
    again.write(OUT, b"new\n")
    assert messages(again, after=end) == ["new"]
    again.close()


@pytest.mark.parametrize("step", [1, 3, 20, 27, 28, 36, 37, 38, 40])
def test_an_offset_that_is_no_lines_edge_is_harmless(log: SessionLog, step: int) -> None:
    """Offsets come back from clients, who may send any number."""
    log.write(OUT, "ääääääää äää\nsecond\nthird\n".encode())
    shown = messages(log, after=step)
    assert shown[-2:] == ["second", "third"]


async def test_readers_wake_up(log: SessionLog) -> None:
    ends = [log.read_end(Channel.CONSOLE)] * 3
    waiting = [asyncio.create_task(log.wait_changed(Channel.CONSOLE, end)) for end in ends]
    system = asyncio.create_task(log.wait_changed(Channel.SYSTEM, 0))
    await asyncio.sleep(0)
    log.write(OUT, b"unfinished")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    log.write(OUT, b" line\n")
    await asyncio.gather(*waiting)
    assert not system.done()
    log.event("Ready", "yes")
    await system
    # What is there already isn't waited for.
    await log.wait_changed(Channel.CONSOLE, 0)


async def test_a_reader_woken_for_less_than_it_waits_for_goes_on_waiting(log: SessionLog) -> None:
    far, near = (
        asyncio.create_task(log.wait_changed(Channel.CONSOLE, position)) for position in (100, 0)
    )
    await asyncio.sleep(0)
    log.write(OUT, b"short\n")
    await near
    assert not far.done()
    log.write(OUT, b"x" * 200 + b"\n")
    await far


async def test_a_reader_that_leaves_takes_nothing_from_the_others(log: SessionLog) -> None:
    leaving, staying = (asyncio.create_task(log.wait_changed(Channel.CONSOLE, 0)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    log.write(OUT, b"x\n")
    await staying


def test_a_full_disk_is_logged_and_the_log_goes_on_when_there_is_room(
    log: SessionLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log.write(OUT, b"before\n")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("trunkline.sessions.log.os.write", full)
        log.write(OUT, b"lost\n")
        log.event("Exited", "lost too")
    assert "can't be written" in caplog.text
    log.write(OUT, b"after\n")
    assert messages(log) == ["before", "after"]


@pytest.mark.parametrize("has_lines", [False, True])
def test_a_segment_that_cannot_be_made_leaves_the_log_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_lines: bool
) -> None:
    log = new_log(tmp_path, SMALL)
    if has_lines:
        log.write(OUT, b"before\n" + b"x" * 40_000 + b"\n" + b"y" * 40_000 + b"\n")
    held = messages(log)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("trunkline.sessions.log.os.open", full)
        log.write(OUT, b"lost\n")
    assert messages(log) == held
    assert messages(log, after=tail(log, 1)) == held[-1:]
    log.write(OUT, b"after\n")
    assert messages(log) == [*held, "after"]
    log.close()
    again = new_log(tmp_path, SMALL)
    assert messages(again) == [*held, "after"]


def test_a_write_cut_short_by_a_full_disk_does_not_shift_what_follows(
    log: SessionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write(OUT, b"before\n")
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr("trunkline.sessions.log.os.write", lambda fd, data: write(fd, data[:10]))
        log.write(OUT, b"cut short\n")
    log.write(OUT, b"after\n")
    log.write(OUT, b"last\n")
    shown = read_all(log)
    assert shown[-1].message == "last"
    assert shown[-1].end == log.read_end(Channel.CONSOLE)


def test_one_log_per_session_however_many_ask(tmp_path: Path) -> None:
    logs = SessionLogs(tmp_path, ENOUGH, ENOUGH)
    one = logs.of("home")
    assert logs.of("home") is one
    assert logs.of("other") is not one
    one.write(OUT, b"x\n")
    assert messages(logs.of("home")) == ["x"]


def test_a_log_that_became_too_long_is_counted_once(tmp_path: Path) -> None:
    counted: list[None] = []
    logs = SessionLogs(tmp_path, SMALL, ENOUGH, on_trim=lambda: counted.append(None))
    log = logs.of("home")
    for _ in range(20):
        log.write(OUT, b"x" * 40_000 + b"\n")
    assert counted == [None]
    assert "LogTrimmed" in "".join(messages(log, channel=Channel.SYSTEM))


def test_a_log_nobody_holds_lets_go_of_its_file(tmp_path: Path) -> None:
    logs = SessionLogs(tmp_path, ENOUGH, ENOUGH)
    log = logs.of("home")
    log.write(OUT, b"x\n")
    descriptor = log._files[Channel.CONSOLE]._descriptor
    assert descriptor is not None
    inode = os.fstat(descriptor).st_ino
    del log
    gc.collect()
    try:
        still_open = os.fstat(descriptor).st_ino == inode
    except OSError:
        still_open = False
    assert not still_open
    assert messages(logs.of("home")) == ["x"]


def test_a_closed_log_opens_again_when_it_is_written_to(log: SessionLog) -> None:
    log.write(OUT, b"one\n")
    log.close()
    log.close()
    log.write(OUT, b"two\n")
    assert messages(log) == ["one", "two"]


def test_what_is_hidden_is_written_as_its_name(tmp_path: Path) -> None:
    log = SessionLog(tmp_path, 10**6, 10**6)
    log.hide(
        {
            "KEY": "sk-12345678",
            "LONG": "sk-12345678-and-more",
            "SHORT": "abc",
            "TWO": "line-one\nline-two",
        }
    )
    log.write(LogStream.STDOUT, b"a sk-123")
    log.write(LogStream.STDOUT, b"45678 b sk-12345678-and-more abc\nline-two and line-one\n")
    log.write(LogStream.STDOUT, b"x" * 70_000 + b"sk-12345678" + b"\n")
    entries: list[Entry] = []
    while found := log.read(Channel.CONSOLE, entries[-1].end if entries else 0):
        entries += found
    text = "".join(entry.message for entry in entries)
    assert text.endswith("x[KEY]")
    assert "a [KEY] b [LONG] abc" in text
    assert "[TWO] and [TWO]" in text
    assert "sk-12345678" not in text
    log.hide({})
    log.write(LogStream.STDOUT, b"sk-12345678\n")
    assert log.read(Channel.CONSOLE, entries[-1].end)[-1].message == "sk-12345678"
    log.close()
