"""Sessions on their way to another process: what is described, held, taken back and let go."""

import asyncio
import base64
from pathlib import Path
from typing import Any, cast

import pytest

from tests.unit.sessions.support import NODE, key, world
from trunkline.protocol.errors import UnavailableError
from trunkline.protocol.ids import SessionKey
from trunkline.runtimes.interface import Instance, LogStream, Passed
from trunkline.sessions.gate import Phase
from trunkline.sessions.leaving import Leaving
from trunkline.sessions.log import Channel, SessionLogs
from trunkline.sessions.slot import Hold, Slot


class FakeInstance:
    """A process that tells what was done with it."""

    def __init__(self, name: str, *, fails: bool = False) -> None:
        self.name = name
        self.is_settled = True
        self.done: list[str] = []
        self._fails = fails

    def pass_on(self) -> Passed:
        if self._fails:
            raise OSError("no descriptor left")
        self.done.append("pass_on")
        return Passed({"name": self.name}, (7,))

    def take_back(self) -> None:
        self.done.append("take_back")

    def let_go(self) -> None:
        self.done.append("let_go")


class FakeSuccessor:
    """The process that takes sessions over."""

    def __init__(self) -> None:
        self.returned: list[SessionKey] = []
        self.events: list[tuple[str, str, str]] = []

    def lease_returned(self, key: SessionKey) -> None:
        self.returned.append(key)

    def event(self, home: str, reason: str, message: str) -> None:
        self.events.append((home, reason, message))

    def warm_up(self, key: SessionKey) -> None:
        raise NotImplementedError


class World:
    """A way out, and the sessions in front of it."""

    def __init__(self, folder: Path) -> None:
        self.slots: dict[SessionKey, Slot] = {}
        self.logs = SessionLogs(folder, 1 << 20, 1 << 20)
        self.clocks: list[SessionKey] = []
        self.leaving = Leaving(
            self.slots, self.logs, NODE, lambda slot: self.clocks.append(slot.key)
        )
        # Logs are kept open by whoever uses them.
        self.open: list[Any] = []

    def add(self, name: str = "s", *, leases: int = 0, fails: bool = False) -> Slot:
        slot = Slot(key(name), f"home-{name}")
        slot.instance = cast("Instance", FakeInstance(name, fails=fails))
        slot.leases = leases
        self.slots[slot.key] = slot
        self.open.append(self.logs.of(slot.home))
        return slot

    def system_log(self, slot: Slot) -> list[str]:
        log = self.logs.of(slot.home)
        return [entry.message for entry in log.read(Channel.SYSTEM, 0)]


def done(slot: Slot) -> list[str]:
    return cast("FakeInstance", slot.instance).done


@pytest.fixture
def w(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_with_nothing_to_move_nothing_is_described(w: World) -> None:
    await w.leaving.quiet(list, 1.0)
    assert w.leaving.gate.phase is Phase.QUIET
    assert w.leaving.pass_on() == []
    successor = FakeSuccessor()
    w.leaving.let_go(successor)
    assert w.leaving.gate.phase is Phase.GONE
    assert (successor.returned, successor.events) == ([], [])


async def test_a_session_is_described_whole(w: World) -> None:
    slot = w.add(leases=2)
    slot.idle_timeout_s, slot.running_since = 12.5, 77.5
    log = w.logs.of(slot.home)
    log.write(LogStream.STDOUT, b"whole\nhalf \xff")
    log.hide({"SECRET": "very secret"})
    (passed,) = w.leaving.pass_on()
    assert passed.files == (7,)
    data = dict(passed.data)
    assert data["key"] == ["default", "echo", "s"]
    assert (data["home"], data["leases"], data["idle_timeout_s"]) == ("home-s", 2, 12.5)
    assert (data["running_since"], data["idle_left_s"]) == (77.5, None)
    assert base64.b64decode(data["unfinished"]["stdout"]) == b"half \xff"
    assert data["hidden"] == {"SECRET": "very secret"}
    assert data["instance"] == {"name": "s"}


async def test_an_idle_clock_stops_where_it_stands(w: World) -> None:
    slot = w.add()
    slot.idle_clock = asyncio.get_running_loop().call_later(100.0, lambda: None)
    (passed,) = w.leaving.pass_on()
    assert passed.data["idle_left_s"] == pytest.approx(100.0, abs=1.0)
    assert slot.idle_clock is None


async def test_a_clock_that_has_run_out_has_nothing_left(w: World) -> None:
    slot = w.add()
    has_run_out = asyncio.Event()
    slot.idle_clock = asyncio.get_running_loop().call_later(0.001, has_run_out.set)
    await has_run_out.wait()
    (passed,) = w.leaving.pass_on()
    assert passed.data["idle_left_s"] == pytest.approx(0.0, abs=0.01)


async def test_one_that_does_not_run_stays_with_those_who_wait_for_it(w: World) -> None:
    slot = w.add()
    slot.instance = None
    assert w.leaving.pass_on() == []
    w.leaving.let_go(FakeSuccessor())
    assert w.slots == {slot.key: slot}


async def test_what_is_starting_is_waited_for(w: World) -> None:
    slot = w.add()
    may_start = asyncio.Event()

    async def start() -> Any:
        await may_start.wait()

    slot.starting = asyncio.create_task(start())
    waiting = asyncio.create_task(w.leaving.quiet(list, 5.0))
    await asyncio.sleep(0)
    assert w.leaving.gate.phase is Phase.QUIET
    assert not waiting.done()
    may_start.set()
    await waiting
    assert w.leaving.gate.phase is Phase.QUIET


async def test_what_comes_while_it_waits_is_waited_for_too(w: World) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    others = {asyncio.create_task(first.wait(), name="first")}

    def remaining() -> "set[asyncio.Task[Any]]":
        return {task for task in others if not task.done()}

    waiting = asyncio.create_task(w.leaving.quiet(remaining, 5.0))
    await asyncio.sleep(0)
    others.add(asyncio.create_task(second.wait(), name="second"))
    first.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    second.set()
    await waiting


async def test_an_agent_that_is_just_ending_is_waited_for(w: World) -> None:
    slot = w.add()
    cast("FakeInstance", slot.instance).is_settled = False
    has_ended = asyncio.Event()

    async def watch() -> None:
        await has_ended.wait()
        slot.instance = None

    slot.watching = asyncio.create_task(watch())
    waiting = asyncio.create_task(w.leaving.quiet(list, 5.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    has_ended.set()
    await waiting
    assert w.leaving.pass_on() == []


async def test_what_takes_too_long_is_named_and_nothing_is_held_back(w: World) -> None:
    slot = w.add()
    slot.starting = asyncio.create_task(asyncio.Event().wait(), name="start:s")  # type: ignore[arg-type]
    with pytest.raises(UnavailableError, match=r"0.01 s \(reload_wait_s\): start:s"):
        await w.leaving.quiet(list, 0.01)
    assert w.leaving.gate.phase is Phase.OPEN
    slot.starting.cancel()


async def test_a_wait_that_is_cancelled_holds_nothing_back(w: World) -> None:
    slot = w.add()
    slot.starting = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]
    waiting = asyncio.create_task(w.leaving.quiet(list, 5.0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert w.leaving.gate.phase is Phase.OPEN
    slot.starting.cancel()


async def test_taken_back_all_is_as_it_was(w: World) -> None:
    idle, used = w.add("idle"), w.add("used", leases=1)
    w.leaving.pass_on()
    for number in range(3):
        w.logs.of(used.home).event("Note", str(number))
    assert w.system_log(used) == []
    w.leaving.take_back()
    assert w.leaving.gate.phase is Phase.OPEN
    assert [done(slot) for slot in (idle, used)] == [["pass_on", "take_back"]] * 2
    # Only where nobody holds a lease the idle time begins again.
    assert w.clocks == [idle.key]
    # What was to be written meanwhile is, in its order, and so is what comes next.
    w.logs.of(used.home).event("Note", "3")
    assert w.system_log(used) == [f"Note: {number}" for number in range(4)]


async def test_one_that_cannot_be_described_takes_none_with_it(w: World) -> None:
    good, bad = w.add("good"), w.add("bad", fails=True)
    never = w.add("never")
    with pytest.raises(OSError, match="no descriptor"):
        w.leaving.pass_on()
    w.leaving.take_back()
    assert [done(slot) for slot in (good, bad, never)] == [["pass_on", "take_back"], [], []]
    assert set(w.slots) == {good.key, bad.key, never.key}
    assert w.leaving.gate.phase is Phase.OPEN
    # It may be tried again.
    bad.instance = cast("Instance", FakeInstance("bad"))
    assert len(w.leaving.pass_on()) == 3


async def test_let_go_of_they_are_another_ones(w: World) -> None:
    slot = w.add(leases=1)
    slot.watching = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]
    w.leaving.pass_on()
    w.logs.of(slot.home).event("Note", "before")
    successor = FakeSuccessor()
    w.leaving.let_go(successor)
    w.logs.of(slot.home).event("Note", "after")
    assert done(slot) == ["pass_on", "let_go"]
    assert w.slots == {}
    assert w.leaving.gate.phase is Phase.GONE
    # Its log is written by one process at a time.
    assert successor.events == [("home-s", "Note", "before"), ("home-s", "Note", "after")]
    assert w.system_log(slot) == []
    await asyncio.wait((slot.watching,))
    assert slot.watching.cancelled()


async def test_leases_returned_on_the_way_are_told_once(w: World) -> None:
    slot = w.add(leases=3)
    w.leaving.pass_on()
    slot.leases -= 1
    w.leaving.returned(slot)
    successor = FakeSuccessor()
    w.leaving.let_go(successor)
    assert successor.returned == [slot.key]
    slot.leases -= 1
    w.leaving.returned(slot)
    assert successor.returned == [slot.key] * 2


async def test_a_lease_of_what_was_not_passed_on_is_nobody_elses(w: World) -> None:
    slot = w.add(leases=1)
    slot.instance = None
    w.leaving.pass_on()
    successor = FakeSuccessor()
    w.leaving.let_go(successor)
    w.leaving.returned(slot)
    assert successor.returned == []


async def test_a_second_try_describes_them_anew(w: World) -> None:
    slot = w.add(leases=1)
    w.leaving.pass_on()
    w.leaving.take_back()
    slot.leases = 4
    (passed,) = w.leaving.pass_on()
    assert passed.data["leases"] == 4
    successor = FakeSuccessor()
    w.leaving.let_go(successor)
    assert successor.returned == []


async def test_a_session_without_idle_time_is_described_before_it_stops(tmp_path: Path) -> None:
    async with world(tmp_path, idle_timeout_s=0.0001) as platform:
        await platform.add_version()
        lease = await platform.acquire()
        await platform.sessions.quiet(1.0)
        # Its clock runs out at once, and it is not to be stopped any more.
        lease.release()
        await asyncio.sleep(0.01)
        (passed,) = platform.sessions.leaving.pass_on()
        assert passed.data["idle_left_s"] == pytest.approx(0.0, abs=0.1)
        platform.sessions.leaving.take_back()


async def test_a_second_successor_gets_what_the_first_left(w: World) -> None:
    slot = w.add(leases=3)
    (passed,) = w.leaving.pass_on()
    assert passed.data["leases"] == 3
    first, second = FakeSuccessor(), FakeSuccessor()
    w.leaving.let_go(first)
    instance = cast("FakeInstance", slot.instance)
    hold = Hold(slot, cast("Instance", instance), w.logs.of(slot.home), lambda _: None)
    # One has moved, one was returned.
    hold.let_go()
    hold.let_go()
    slot.leases -= 1
    w.leaving.returned(slot)
    assert first.returned == [slot.key]
    assert w.leaving.look_for_another() == {slot.key: 1}
    # What happens while there is nobody is told to the next one.
    w.logs.of(slot.home).event("Some", "thing")
    slot.leases -= 1
    w.leaving.returned(slot)
    w.leaving.let_go(second)
    assert (first.returned, first.events) == ([slot.key], [])
    assert second.returned == [slot.key]
    assert second.events == [(slot.home, "Some", "thing")]
    assert instance.done == ["pass_on", "let_go"]
    assert w.slots == {}
