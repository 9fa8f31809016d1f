"""Sessions of another process taken over, and the leases that it still holds."""

import asyncio
import base64
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from tests.unit.sessions.support import NODE, key
from trunkline.runtimes.interface import Instance, InstanceSpec, LogSink, LogStream, Passed, Runtime
from trunkline.sessions.arriving import Arriving, key_from
from trunkline.sessions.homes import SessionHomes
from trunkline.sessions.leaving import Leaving
from trunkline.sessions.log import Channel, SessionLog, SessionLogs
from trunkline.sessions.slot import Slot


@dataclass
class FakeRuntime:
    """Takes over what it is given, or refuses."""

    taken: list[tuple[InstanceSpec, Passed]] = field(default_factory=list)
    fails: bool = False

    def take_over(self, spec: InstanceSpec, logs: LogSink, passed: Passed) -> Instance:
        if self.fails:
            raise OSError("the pipe isn't one")
        self.taken.append((spec, passed))
        return cast("Instance", object())


class World:
    """A way in, and what became of what came."""

    def __init__(self, folder: Path) -> None:
        self.runtime = FakeRuntime()
        self.logs = SessionLogs(folder, 1 << 20, 1 << 20)
        self.watched: list[tuple[Slot, Instance, SessionLog, float | None]] = []
        self.returned: list[Slot] = []
        self.arriving = Arriving(
            node=NODE,
            runtime=cast("Runtime", self.runtime),
            homes=SessionHomes(folder),
            logs=self.logs,
            watch=lambda *taken: self.watched.append(taken),
            on_return=self.returned.append,
        )

    def take_over(self, name: str = "s", **changes: Any) -> None:
        data = {
            "key": ["default", "echo", name],
            "home": f"home-{name}",
            "version": "3",
            "leases": 0,
            "idle_timeout_s": 9.0,
            "idle_left_s": None,
            "unfinished": {},
            "instance": {"stop_timeout_s": 4.0, "pid": 17},
        }
        self.arriving.take_over(Passed(data | changes, (5, 6)))


@pytest.fixture
def w(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_session_goes_on_where_it_was(w: World) -> None:
    half = base64.b64encode(b"half a ").decode()
    w.take_over(
        running_since=77.5,
        idle_left_s=3.5,
        unfinished={"stdout": half},
        hidden={"KEY": "very secret"},
    )
    ((slot, instance, log, left_s),) = w.watched
    assert (slot.key, slot.home, slot.version) == (key("s"), "home-s", "3")
    assert (slot.leases, slot.idle_timeout_s, left_s) == (0, 9.0, 3.5)
    assert slot.running_since == 77.5
    ((spec, passed),) = w.runtime.taken
    assert (spec.key, spec.node, spec.stop_timeout_s) == (key("s"), NODE, 4.0)
    assert (passed.data["pid"], passed.files) == (17, (5, 6))
    assert instance is not None
    # The line that was under way is one line, and what was hidden stays so.
    log.write(LogStream.STDOUT, b"line: very secret\n")
    assert [entry.message for entry in log.read(Channel.CONSOLE, 0)] == ["half a line: [KEY]"]


async def test_one_from_an_older_platform_knows_of_nothing_hidden(w: World) -> None:
    begun = time.monotonic()
    w.take_over()
    slot, _, log, _ = w.watched[0]
    assert log.hidden == {}
    # Nor since when it runs: it isn't taken for one that ran for long.
    assert slot.running_since >= begun


async def test_one_that_cannot_be_taken_over_leaves_nothing_behind(w: World) -> None:
    w.runtime.fails = True
    with pytest.raises(OSError, match="pipe"):
        w.take_over(leases=2)
    assert w.watched == []
    with pytest.raises(KeyError):
        w.arriving.lease_moved(key("s"))
    w.arriving.predecessor_ended()
    assert w.returned == []


async def test_leases_come_over_or_are_returned_one_by_one(w: World) -> None:
    w.take_over(leases=3)
    slot = w.watched[0][0]
    moved = w.arriving.lease_moved(slot.key)
    w.arriving.lease_returned(slot.key)
    assert w.returned == [slot]
    # The last one goes with its holder.
    w.arriving.predecessor_ended()
    assert w.returned == [slot, slot]
    assert moved.key == slot.key
    moved.release()
    moved.release()
    assert w.returned == [slot] * 3


async def test_a_predecessor_that_vanishes_returns_all_it_held(w: World) -> None:
    for name, leases in (("a", 2), ("b", 0), ("c", 1)):
        w.take_over(name, leases=leases)
    w.arriving.predecessor_ended()
    assert [slot.key.session_id for slot in w.returned] == ["a", "a", "c"]
    w.arriving.predecessor_ended()
    assert len(w.returned) == 3


async def test_a_lease_that_nobody_holds_is_not_made_up(w: World) -> None:
    w.take_over(leases=1)
    w.arriving.lease_returned(key("s"))
    for way in (w.arriving.lease_returned, w.arriving.lease_moved):
        with pytest.raises(KeyError):
            way(key("s"))
    assert len(w.returned) == 1


async def test_a_lease_whose_connection_did_not_move_is_the_other_ones_again(w: World) -> None:
    w.take_over(leases=1)
    for _ in range(2):
        moved = w.arriving.lease_moved(key("s"))
        w.arriving.lease_stays(moved)
        moved.release()
        assert w.returned == []
    w.arriving.lease_returned(key("s"))
    assert len(w.returned) == 1
    # When the other one has ended there is nobody to leave it to.
    w.take_over("t", leases=1)
    moved = w.arriving.lease_moved(key("t"))
    w.arriving.predecessor_ended()
    w.arriving.lease_stays(moved)
    w.arriving.predecessor_ended()
    assert len(w.returned) == 1


async def test_what_one_process_describes_the_next_understands(tmp_path: Path) -> None:
    class Leaver:
        is_settled = True

        def pass_on(self) -> Passed:
            return Passed({"stop_timeout_s": 1.0}, (3,))

    old_logs = SessionLogs(tmp_path, 1 << 20, 1 << 20)
    slot = Slot(key("s"), "home-s")
    slot.instance = cast("Instance", Leaver())
    slot.leases, slot.idle_timeout_s = 1, 7.0
    slot.idle_clock = asyncio.get_running_loop().call_later(50.0, lambda: None)
    log = old_logs.of(slot.home)
    log.write(LogStream.STDERR, b"first\nsec")
    leaving = Leaving({slot.key: slot}, old_logs, NODE, lambda _: None)
    (passed,) = leaving.pass_on()
    w = World(tmp_path)
    w.arriving.take_over(passed)
    ((arrived, _, new_log, left_s),) = w.watched
    assert (arrived.key, arrived.home, arrived.leases) == (slot.key, slot.home, 1)
    assert (arrived.idle_timeout_s, arrived.suspend_after_s) == (7.0, slot.suspend_after_s)
    assert left_s == pytest.approx(50.0, abs=1.0)
    new_log.write(LogStream.STDERR, b"ond\n")
    assert [e.message for e in new_log.read(Channel.CONSOLE, 0)] == ["first", "second"]


def test_a_key_is_three_names() -> None:
    assert key_from(["default", "echo", "s"]) == key("s")
    with pytest.raises(ValueError, match="unpack"):
        key_from(["default", "echo"])
