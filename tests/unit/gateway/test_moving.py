"""Connections on their way to another process: which move, in which order, and what goes wrong."""

import asyncio
import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from trunkline.aio.passing import PassingError
from trunkline.auth.caller import Caller
from trunkline.auth.identity import Identity
from trunkline.gateway import moving
from trunkline.gateway.first_look import FirstLook
from trunkline.gateway.moved import MovedLeg, MovedRelay
from trunkline.gateway.moving import Departure, _caller_from, _leg_from
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.summary import ClosedBy
from trunkline.protocol.ids import AgentName, ProjectName, SessionId, SessionKey

KEY = SessionKey(ProjectName("default"), AgentName("echo"), SessionId("s"))


def open_files() -> set[str]:
    """Return the descriptors that are like those of connections here."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{name}") == os.devnull:
                found.add(name)
    return found


def new_file() -> int:
    return os.open(os.devnull, os.O_RDONLY)


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    before = open_files()
    yield
    assert open_files() <= before


class FakeRelay:
    """Stands for a relay: it can be moved at the so-many-eth try."""

    def __init__(self, *, tries: float = 1, is_encrypted: bool = False) -> None:
        self.is_encrypted = is_encrypted
        self.is_ending = False
        self.left = tries
        self.done: list[str] = []
        self.closed: tuple[int, ClosedBy] | None = None
        self.went_on = asyncio.Event()

    def hold(self) -> None:
        self.done.append("hold")

    def go_on(self) -> None:
        self.done.append("go_on")
        self.went_on.set()

    def close(self, code: int, _: str, by: ClosedBy) -> None:
        self.closed = code, by


class FakeRelayed:
    """Stands for a relayed connection."""

    def __init__(self, gateway: "FakeGateway", name: str, relay: FakeRelay) -> None:
        self._gateway = gateway
        self.relay = relay
        self.name = name
        self.agent = SimpleNamespace(key=KEY, version="3", is_local=True)
        self.caller = Caller(
            identity=Identity("urn:test", "anna"), acting_for="u1", issued_at=5.0, credential="c"
        )
        self.expires_at = math.inf
        self.client, self.request_id = "192.0.2.1", name
        self.counted_as = {"peer": "192.0.2.1"}

    def detach(self) -> MovedRelay | None:
        self.relay.done.append("detach")
        self.relay.left -= 1
        if self.relay.left > 0:
            return None
        self._gateway.relayed.discard(self)
        legs = (
            MovedLeg(new_file(), 3, 7, 100, 2.0, b"re\xffst", b"unsent"),
            MovedLeg(new_file(), 0, 9, 200, 4.0, b"", b""),
        )
        return MovedRelay(*legs, started_at=1.5)

    def leave(self) -> None:
        self.relay.done.append("leave")

    def come_back(self, moved: MovedRelay) -> None:
        self.relay.done.append("come_back")
        self._gateway.relayed.add(self)
        assert moved.started_at == 1.5


class FakeGateway:
    """What a departure looks at."""

    def __init__(self) -> None:
        self.relayed: set[Any] = set()
        self.stranded: list[tuple[int, bytes]] = []
        self.connections: set[Any] = set()
        self.departure = Departure(cast("GatewayServices", self), self.connections)

    def add(self, name: str = "r", **relay: Any) -> FakeRelayed:
        relayed = FakeRelayed(self, name, FakeRelay(**relay))
        self.relayed.add(relayed)
        return relayed


class NextOne:
    """The process that takes connections over."""

    def __init__(self, *, fails: bool = False) -> None:
        self.batches: list[list[Mapping[str, Any]]] = []
        self.files: list[int] = []
        self.connections: list[bytes] = []
        self.asked = asyncio.Event()
        self._fails = fails

    async def relays(self, relays: Sequence[Mapping[str, Any]], files: Sequence[int]) -> None:
        for file in files:
            os.fstat(file)
        await asyncio.sleep(0)
        if self._fails:
            raise PassingError
        self.batches.append(list(relays))
        self.files += files

    def connection(self, data: bytes, file: int) -> None:
        os.fstat(file)
        if self._fails:
            raise PassingError
        self.connections.append(data)


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


async def test_when_the_time_is_over_nobody_is_waited_for_in_turn() -> None:
    gateway = FakeGateway()
    stuck = [gateway.add(str(number), tries=math.inf) for number in range(20)]
    moved = await gateway.departure.move(cast("Any", NextOne()), 0.0)
    assert moved.left == 20
    assert [each.relay.done for each in stuck] == [["hold", "detach", "go_on"]] * 20


async def test_with_nothing_to_move_it_is_over_at_once(gateway: FakeGateway) -> None:
    to = NextOne()
    moved = await gateway.departure.move(to, 5.0)
    assert (moved.relays, moved.connections, moved.encrypted, moved.left) == (0, 0, 0, 0)
    assert (to.batches, to.connections, moved.pauses_s) == ([], [], [])


async def test_a_relay_is_described_whole(gateway: FakeGateway) -> None:
    gateway.add()
    to = NextOne()
    moved = await gateway.departure.move(to, 5.0)
    ((data,),) = to.batches
    assert (moved.relays, len(to.files), len(moved.pauses_s)) == (1, 2, 1)
    assert data["key"] == ["default", "echo", "s"]
    assert (data["version"], data["is_local"], data["started_at"]) == ("3", True, 1.5)
    assert (data["client"], data["request_id"]) == ("192.0.2.1", "r")
    # It comes out at the other end as it went in, whatever bytes there are.
    assert _leg_from(data["downstream"], 9) == MovedLeg(9, 3, 7, 100, 2.0, b"re\xffst", b"unsent")
    assert _leg_from(data["upstream"], 8) == MovedLeg(8, 0, 9, 200, 4.0, b"", b"")
    caller = _caller_from(data["caller"])
    assert (caller.identity, caller.acting_for) == (Identity("urn:test", "anna"), "u1")
    assert (caller.expires_at, caller.issued_at, caller.credential) == (math.inf, 5.0, "c")
    # What it may do was decided when it came in.
    assert not caller.grants.all


async def test_a_time_that_ends_is_told(gateway: FakeGateway) -> None:
    gateway.add().expires_at = 77.0
    to = NextOne()
    await gateway.departure.move(to, 5.0)
    assert _caller_from(to.batches[0][0]["caller"]).expires_at == 77.0


async def test_a_few_are_still_at_once(gateway: FakeGateway) -> None:
    all_of_them = [gateway.add(str(number)) for number in range(10)]
    to = NextOne()
    moved = await gateway.departure.move(to, 5.0)
    assert [len(batch) for batch in to.batches] == [4, 4, 2]
    assert sorted(data["request_id"] for batch in to.batches for data in batch) == [
        str(number) for number in range(10)
    ]
    assert moved.relays == 10
    assert all(each.relay.done == ["hold", "detach", "leave"] for each in all_of_them)


async def test_one_that_cannot_move_yet_goes_on_and_is_tried_again(gateway: FakeGateway) -> None:
    slow, quick = gateway.add("slow", tries=2), gateway.add("quick")
    to = NextOne()
    moved = await gateway.departure.move(to, 5.0)
    assert moved.relays == 2
    assert slow.relay.done[:3] == ["hold", "detach", "go_on"]
    assert quick.relay.done == ["hold", "detach", "leave"]
    # Alone, and with patience.
    assert [data["request_id"] for data in to.batches[-1]] == ["slow"]


async def test_one_that_never_can_is_left_and_the_others_are_not(gateway: FakeGateway) -> None:
    stuck = gateway.add("stuck", tries=math.inf)
    gateway.add("free")
    to = NextOne()
    moved = await gateway.departure.move(to, 0.1)
    assert (moved.relays, moved.left) == (1, 1)
    assert gateway.relayed == {stuck}
    # It isn't left still.
    assert stuck.relay.done[-1] == "go_on"


async def test_one_that_ends_meanwhile_is_not_waited_for(gateway: FakeGateway) -> None:
    leaving = gateway.add("leaving", tries=math.inf)
    moving_on = asyncio.create_task(gateway.departure.move(NextOne(), 30.0))
    await leaving.relay.went_on.wait()
    gateway.relayed.discard(leaving)
    moved = await moving_on
    assert (moved.relays, moved.left) == (0, 0)


async def test_encrypted_ones_are_told_to_come_again_once(gateway: FakeGateway) -> None:
    told = gateway.add("tls", is_encrypted=True)
    moved = await gateway.departure.move(NextOne(), 0.05)
    assert told.relay.closed == (1001, ClosedBy.DRAIN)
    assert (moved.encrypted, moved.relays, told.relay.done) == (1, 0, [])


async def test_what_a_vanished_peer_has_not_taken_goes_on_here(gateway: FakeGateway) -> None:
    for number in range(6):
        gateway.add(str(number))
    with pytest.raises(PassingError):
        await gateway.departure.move(NextOne(fails=True), 5.0)
    done = sorted(each.relay.done for each in gateway.relayed)
    # Those that weren't on their way are as they were.
    assert done == [[], []] + [["hold", "detach", "come_back"]] * 4


async def test_one_cancelled_on_the_way_leaves_nothing_open(gateway: FakeGateway) -> None:
    gateway.add("stuck", tries=math.inf)
    gateway.add("free")

    class Slow(NextOne):
        async def relays(self, relays: Sequence[Mapping[str, Any]], files: Sequence[int]) -> None:
            self.asked.set()
            await asyncio.Event().wait()

    to = Slow()
    move = asyncio.create_task(gateway.departure.move(to, 5.0))
    await to.asked.wait()
    move.cancel()
    with pytest.raises(asyncio.CancelledError):
        await move


async def test_what_is_stranded_goes_as_it_came(gateway: FakeGateway) -> None:
    gateway.stranded += [(new_file(), b"GET / HTTP/1.1\r\n\r\nearly"), (new_file(), b"")]
    to = NextOne()
    moved = await gateway.departure.move(to, 5.0)
    assert sorted(to.connections) == [b"", b"GET / HTTP/1.1\r\n\r\nearly"]
    assert moved.connections == 2
    assert gateway.stranded == []


async def test_what_a_vanished_peer_cannot_take_waits_for_another(gateway: FakeGateway) -> None:
    gateway.stranded.append((new_file(), b"GET"))
    with pytest.raises(PassingError):
        await gateway.departure.move(NextOne(fails=True), 5.0)
    assert [data for _, data in gateway.stranded] == [b"GET"]
    to = NextOne()
    await Departure(cast("GatewayServices", gateway), set()).move(to, 5.0)
    assert to.connections == [b"GET"]


async def test_connections_that_rest_move_and_busy_ones_finish_here(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Connection:
        def __init__(self, file: int | None) -> None:
            self._file = file

        def detach(self) -> tuple[int, bytes] | None:
            file, self._file = self._file, None
            return None if file is None else (file, b"")

    monkeypatch.setattr(moving, "FrontDoor", Connection)
    assert FirstLook is not Connection
    gateway.connections |= {Connection(new_file()), Connection(None), object()}
    to = NextOne()
    moved = await gateway.departure.move(to, 5.0)
    assert (moved.connections, to.connections) == (1, [b""])


@pytest.mark.parametrize(("tries", "moves"), [(3, 1), (math.inf, 0)])
async def test_one_that_is_being_answered_is_waited_for_a_moment(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, tries: float, moves: int
) -> None:
    class Answering:
        def __init__(self) -> None:
            self.left = tries

        def detach(self) -> tuple[int, bytes] | None:
            self.left -= 1
            if self.left > 0:
                return None
            gateway.connections.discard(self)
            return new_file(), b""

    monkeypatch.setattr(moving, "FrontDoor", Answering)
    gateway.connections.add(Answering())
    async with asyncio.timeout(5.0):
        # In the time it has, an answer without an end would hold it up for ever.
        moved = await gateway.departure.move(NextOne(), math.inf)
    assert moved.connections == moves
