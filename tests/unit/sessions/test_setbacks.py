"""Agents that fail again and again wait for their next start, and only those."""

import asyncio
import json
from pathlib import Path

import pytest

import trunkline.sessions.setbacks as setbacks_module
from tests.unit.sessions.support import key, world
from trunkline.gateway.responses import headers_for
from trunkline.protocol.errors import SessionFailingError, SessionNotReadyError
from trunkline.runtimes.interface import ExitStatus
from trunkline.sessions.log import Channel
from trunkline.sessions.setbacks import Setbacks

MOST_S = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def fail(setbacks: Setbacks, home: str = "h", *, begun_at: float = 999.0) -> str:
    """Note a failure; return what was told of it."""
    told: list[str] = []
    setbacks.note(home, begun_at, lambda reason, message: told.append(f"{reason}: {message}"))
    return "".join(told)


def wait_s(setbacks: Setbacks, home: str = "h") -> int:
    try:
        setbacks.refuse(key(), home)
    except SessionFailingError as error:
        return error.retry_after_s
    return 0


def test_each_failure_in_a_row_doubles_the_wait_up_to_the_longest() -> None:
    clock = Clock()
    setbacks = Setbacks(MOST_S, clock)
    waits = []
    for _ in range(9):
        fail(setbacks, begun_at=clock.now - 1)
        waits.append(wait_s(setbacks))
        clock.now += waits[-1]
        assert wait_s(setbacks) == 0
    assert waits == [0, 5, 10, 20, 40, 60, 60, 60, 60]


def test_what_is_left_of_a_wait_is_told_in_whole_seconds() -> None:
    clock = Clock()
    setbacks = Setbacks(MOST_S, clock)
    assert fail(setbacks) == ""
    told = fail(setbacks)
    assert told.startswith("StartDelayed: it failed 2 times in a row")
    assert "5 s (TRUNKLINE_SESSIONS_RESTART_WAIT_MAX_S)" in told
    clock.now += 3.9
    with pytest.raises(SessionFailingError, match=r"2 times in a row, .* again in 2 s") as caught:
        setbacks.refuse(key(), "h")
    assert "`trunkline monitor echo --session-id s`" in str(caught.value)
    assert ("retry-after", "2") in headers_for(caught.value)
    assert caught.value.limit == "restart_wait_max_s"


def test_one_that_ran_for_long_begins_anew() -> None:
    clock = Clock()
    setbacks = Setbacks(MOST_S, clock)
    for _ in range(3):
        fail(setbacks)
    assert setbacks.is_failing("h")
    clock.now += 80
    fail(setbacks, begun_at=clock.now - MOST_S)
    assert not setbacks.is_failing("h")
    assert wait_s(setbacks) == 0


def test_a_session_waits_for_its_own_failures_only() -> None:
    setbacks = Setbacks(MOST_S, Clock())
    fail(setbacks)
    fail(setbacks)
    fail(setbacks, "other")
    assert (wait_s(setbacks), wait_s(setbacks, "other"), wait_s(setbacks, "third")) == (5, 0, 0)


def test_a_session_that_somebody_saw_to_begins_anew() -> None:
    setbacks = Setbacks(MOST_S, Clock())
    fail(setbacks)
    fail(setbacks)
    setbacks.forgive("h")
    setbacks.forgive("h")
    assert wait_s(setbacks) == 0
    assert fail(setbacks) == ""


def test_what_failed_long_ago_is_forgotten() -> None:
    clock = Clock()
    setbacks = Setbacks(MOST_S, clock)
    for number in range(100):
        fail(setbacks, f"h{number}")
        fail(setbacks, f"h{number}")
    clock.now += 2 * MOST_S
    fail(setbacks)
    assert list(setbacks._rows) == ["h"]


def test_another_process_goes_on_from_what_was_known() -> None:
    clock = Clock()
    old, new = Setbacks(MOST_S, clock), Setbacks(MOST_S, clock)
    fail(old, "once")
    for _ in range(3):
        fail(old)
    new.take_over(json.loads(json.dumps(old.described())))
    assert (wait_s(new), wait_s(new, "once")) == (10, 0)
    assert "it failed 4 times" in fail(new)
    assert "it failed 2 times" in fail(new, "once")
    # What is old is forgotten there, too.
    clock.now += 2 * MOST_S
    fail(new, "third")
    assert list(new._rows) == ["third"]


def test_a_thousand_failures_are_no_number_too_large() -> None:
    setbacks = Setbacks(1e9, Clock())
    for _ in range(2000):
        fail(setbacks)
    assert wait_s(setbacks) == 10**9


def test_without_a_longest_wait_nobody_waits() -> None:
    setbacks = Setbacks(0, Clock())
    assert [fail(setbacks) for _ in range(5)] == [""] * 5
    assert wait_s(setbacks) == 0


async def test_a_session_that_crashes_twice_waits_and_its_log_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        for number in range(2):
            (await w.acquire()).release()
            w.runtime.instances[number].crash()
            await w.until_settled()
        with pytest.raises(SessionFailingError) as caught:
            await w.acquire()
        assert 1 <= caught.value.retry_after_s <= 5
        assert len(w.runtime.specs) == 2
        # Others of the same agent don't wait, and nothing is left of who was refused.
        (await w.acquire("other")).release()
        assert set(w.sessions._processes._slots) == {key("other")}
        record = await w.store.find_session(key())
        assert record is not None
        said = w.sessions.logs.of(record.home).read(Channel.SYSTEM, 0)
        assert [e.message for e in said if e.message.startswith("StartDelayed: it failed 2 times")]
        # Whoever stops it has it started at once.
        await w.sessions.stop(key(), home=record.home)
        await w.acquire()
        assert len(w.runtime.specs) == 4


async def test_a_session_whose_agent_cannot_be_started_waits(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        w.runtime.error = SessionNotReadyError("it ended with exit code 1")
        for _ in range(2):
            with pytest.raises(SessionNotReadyError, match="exit code 1"):
                await w.acquire()
        with pytest.raises(SessionFailingError):
            await w.acquire()
        assert len(w.runtime.specs) == 2


async def test_one_that_failed_again_begins_by_giving_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setbacks_module, "FIRST_WAIT_S", 0.0)
    async with world(tmp_path) as w:
        await w.add_version()
        for number in range(3):
            (await w.acquire()).release()
            w.runtime.instances[number].crash()
            await w.until_settled()
        assert [spec.gives_way for spec in w.runtime.specs] == [False, False, True]


async def test_an_agent_that_ends_well_or_is_stopped_has_not_failed(tmp_path: Path) -> None:
    async with world(tmp_path, idle_timeout_s=0.01) as w:
        await w.add_version()
        for number in range(3):
            lease = await w.acquire()
            w.runtime.instances[number].exited.set_result(ExitStatus(code=0))
            await w.until_settled()
            lease.release()
        for number in range(3, 6):
            (await w.acquire()).release()
            await w.runtime.instances[number].stop_asked.wait()
            await w.until_settled()
        await w.acquire()
        assert len(w.runtime.specs) == 7


async def test_those_who_wait_for_a_start_share_its_failure(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        w.runtime.may_start.clear()
        w.runtime.error = SessionNotReadyError("no")
        asking = [asyncio.create_task(w.acquire()) for _ in range(5)]
        await w.runtime.begun.wait()
        w.runtime.may_start.set()
        await asyncio.gather(*asking, return_exceptions=True)
        w.runtime.error = None
        await w.acquire()
