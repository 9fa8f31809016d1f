"""Sessions are kept ready for callers who name none, and are nobody's until one gets them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sessions.support import ANNA, BERTA, World, key, metric, until, upkeep_of, world
from trunkline.auth.rates import Rate
from trunkline.protocol.errors import QuotaExceededError, RateLimitedError, SessionNotReadyError
from trunkline.protocol.ids import SessionId
from trunkline.sessions import ready
from trunkline.sessions.directory import new_session_id
from trunkline.sessions.log import Channel
from trunkline.sessions.ready import ReadyStatus
from trunkline.sessions.slot import Lease
from trunkline.store.paging import Page
from trunkline.store.records import SessionStatus, VersionRecord

GIVEN = 'trunkline_ready_sessions_total{outcome="given"}'
ENDED = 'trunkline_ready_sessions_total{outcome="ended"}'
FAILED = 'trunkline_ready_sessions_total{outcome="failed"}'


async def unnamed(w: World, caller: Any = ANNA) -> Lease:
    return await w.sessions.acquire(
        key(new_session_id()), caller, protocol="invocations_ws", is_named=False
    )


async def kept(w: World, version: VersionRecord, count: int = 1) -> None:
    """Wait until so many are ready."""

    async def are_kept() -> bool:
        return w.sessions.ready.status(version).kept == count

    await until(are_kept)


async def listed(w: World) -> list[SessionId]:
    page = await w.store.list_sessions(key().project, key().agent, Page(limit=100))
    return [record.key.session_id for record in page.items]


async def test_who_names_none_gets_one_that_is_ready(tmp_path: Path) -> None:
    async with world(tmp_path, ready_max=1) as w:
        version = await w.add_version()
        first = await unnamed(w)
        await kept(w, version)
        assert len(w.runtime.specs) == 2
        assert metric(w.metrics, "trunkline_sessions_ready") == 1
        assert metric(w.metrics, "trunkline_sessions_running") == 1
        w.runtime.may_start.clear()
        second = await unnamed(w, BERTA)
        assert second.key == w.runtime.specs[1].key
        assert second.key != first.key
        assert second.address == w.runtime.instances[1].address
        record = await w.store.find_session(second.key)
        assert record is not None
        assert (record.owner, record.status) == (BERTA.identity.owner, SessionStatus.ACTIVE)
        assert record.version == version.version
        assert w.runtime.specs[1].environment["FOUNDRY_AGENT_SESSION_ID"] == second.key.session_id
        assert w.sessions.is_running(second.key)
        assert metric(w.metrics, "trunkline_sessions_ready") == 0
        assert metric(w.metrics, "trunkline_sessions_running") == 2
        assert metric(w.metrics, GIVEN) == 1
        # Another one is being made.
        await until(lambda: has_started(w, 3))
        # It is a session like any other from here on.
        w.runtime.may_start.set()
        again = await w.sessions.acquire(second.key, BERTA, protocol="invocations_ws")
        assert again.address == second.address


async def test_one_that_is_ready_is_nobodys(tmp_path: Path) -> None:
    async with world(tmp_path, ready_max=1) as w:
        version = await w.add_version()
        first = await unnamed(w)
        await kept(w, version)
        ready_key, ready_home = w.runtime.specs[1].key, w.runtime.specs[1].home
        assert await listed(w) == [first.key.session_id]
        assert await w.store.find_session(ready_key) is None
        assert not w.sessions.is_running(ready_key)
        # Who guesses its id gets a session of their own, and it is given to nobody any more.
        guessed = await w.sessions.acquire(ready_key, BERTA, protocol="invocations_ws")
        assert guessed.address != w.runtime.instances[1].address
        assert w.runtime.specs[-1].home != ready_home
        third = await unnamed(w)
        assert third.key != ready_key
        assert third.address not in (guessed.address, w.runtime.instances[1].address)
        assert w.runtime.instances[1].exited.done()
        assert not ready_home.exists()


async def test_none_is_kept_unless_that_is_wanted(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        version = await w.add_version()
        for _ in range(3):
            await unnamed(w)
        assert w.sessions.ready.status(version) == ReadyStatus()
        assert len(w.runtime.specs) == 3


async def test_none_is_kept_for_callers_who_name_theirs(tmp_path: Path) -> None:
    async with world(tmp_path, ready_max=1) as w:
        version = await w.add_version()
        await w.acquire()
        assert w.sessions.ready.status(version) == ReadyStatus(most=1)


@pytest.mark.parametrize(
    ("said", "most"), [("2", 2), ("100", 3), ("0", 0), ("-1", 0), ("many", 0), (None, 1)]
)
async def test_a_definition_says_how_many_within_the_platforms_bound(
    tmp_path: Path, said: str | None, most: int
) -> None:
    variables = {} if said is None else {"TRUNKLINE_READY_SESSIONS": said}
    async with world(tmp_path, ready_max=1, ready_total_max=3) as w:
        version = await w.add_version(environment_variables=variables)
        assert w.sessions.ready.status(version).most == most


async def test_as_many_are_kept_as_callers_come_while_one_starts(tmp_path: Path) -> None:
    now = 1000.0
    async with world(tmp_path, ready_max=5, ready_window_s=10.0) as w:
        w.sessions.ready.clock = lambda: now
        version = await w.add_version()
        await unnamed(w)
        w.runtime.may_start.clear()
        callers = [asyncio.create_task(unnamed(w)) for _ in range(11)]
        await until(lambda: has_started(w, 13))
        assert w.sessions.ready.status(version) == ReadyStatus(kept=0, wanted=1, most=5)
        now += 2.0
        w.runtime.may_start.set()
        await asyncio.gather(*callers)
        # 1.2 a second, and a start takes 2 seconds.
        await kept(w, version, 3)
        assert w.sessions.ready.status(version) == ReadyStatus(kept=3, wanted=3, most=5)
        now += 10.0
        await w.sessions.ready.look()
        await kept(w, version, 0)
        assert w.sessions.ready.status(version) == ReadyStatus(most=5)
        await until(lambda: all_stopped(w, 12))
        assert metric(w.metrics, ENDED) == 3


async def has_started(w: World, starts: int) -> bool:
    return len(w.runtime.specs) == starts


async def all_stopped(w: World, running: int) -> bool:
    homes = [spec.home for spec in w.runtime.specs if spec.home.exists()]
    alive = [each for each in w.runtime.instances if not each.exited.done()]
    return len(alive) == len(homes) == running


async def test_no_more_are_kept_than_the_platforms_bound_and_memory_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, ready_max=5, ready_total_max=1) as w:
        version = await w.add_version()
        await unnamed(w)
        await kept(w, version)
    monkeypatch.setattr(ready, "_available_bytes", lambda: 2**30 - 1)
    (tmp_path / "other").mkdir()
    async with world(tmp_path / "other", ready_max=5) as w:
        version = await w.add_version()
        await unnamed(w)
        assert w.sessions.ready.status(version) == ReadyStatus(kept=0, wanted=1, most=5)
        assert len(w.runtime.specs) == 1


async def test_what_is_ready_counts_for_no_limit_until_it_is_somebodys(tmp_path: Path) -> None:
    async with world(tmp_path, ready_max=1, max_running=2) as w:
        version = await w.add_version()
        await unnamed(w)
        await kept(w, version)
        await w.acquire("named")
        with pytest.raises(QuotaExceededError):
            await unnamed(w)
        assert w.runtime.instances[1].exited.done()
        # Nothing is made ready while nothing could be given away.
        await w.sessions.ready.look()
        assert len(w.runtime.specs) == 3


async def test_how_often_an_owner_may_make_one_holds(tmp_path: Path) -> None:
    async with world(tmp_path, ready_max=1) as w:
        version = await w.add_version()
        w.sessions.rate = Rate(0.001, "setting", "owner")
        await unnamed(w)
        await kept(w, version)
        with pytest.raises(RateLimitedError):
            await unnamed(w)
        assert w.sessions.ready.status(version).kept == 1


async def test_one_whose_agent_has_ended_is_given_to_nobody(tmp_path: Path) -> None:
    async with world(tmp_path, ready_max=1) as w:
        version = await w.add_version()
        await unnamed(w)
        await kept(w, version)
        home = w.runtime.specs[1].home
        w.runtime.instances[1].crash()
        second = await unnamed(w)
        assert second.address == w.runtime.instances[2].address
        await until(lambda: is_gone(home))
        # It might end again at once.
        await w.sessions.ready.look()
        assert len(w.runtime.specs) == 3


async def is_gone(path: Path) -> bool:
    return not path.parent.exists()


async def test_one_that_cannot_be_started_is_not_tried_again_at_once(tmp_path: Path) -> None:
    async with world(tmp_path, ready_max=1) as w:
        version = await w.add_version()
        first = await unnamed(w)
        await kept(w, version)
        w.runtime.error = SessionNotReadyError("it ended with exit code 1")
        await unnamed(w)
        await until(lambda: has_failed(w))
        await w.sessions.ready.look()
        assert len(w.runtime.specs) == 3
        assert len(list(w.sessions_dir.glob("[!.]*"))) == 2
        first.release()


async def has_failed(w: World) -> bool:
    return metric(w.metrics, FAILED) == 1 and len(list(w.sessions_dir.glob("[!.]*"))) == 2


async def test_one_with_other_secrets_than_now_is_given_to_nobody(tmp_path: Path) -> None:
    class Secrets:
        value = "old"

        async def open(self, version: VersionRecord) -> dict[str, str]:
            return {"KEY": self.value}

    secrets = Secrets()
    async with world(tmp_path, ready_max=1) as w:
        w.sessions.use_secrets(secrets)  # type: ignore[arg-type]
        version = await w.add_version()
        await unnamed(w)
        await kept(w, version)
        assert w.runtime.specs[1].environment["KEY"] == "old"
        secrets.value = "new"
        second = await unnamed(w)
        assert second.key != w.runtime.specs[1].key
        started = next(spec for spec in w.runtime.specs if spec.key == second.key)
        assert started.environment["KEY"] == "new"
        await until(lambda: is_gone(w.runtime.specs[1].home))


async def test_those_of_a_version_that_is_not_routed_to_any_more_end(tmp_path: Path) -> None:
    async with world(tmp_path, ready_max=1) as w:
        old = await w.add_version()
        await unnamed(w)
        await kept(w, old)
        new = await w.add_version(cpu="2")
        await w.sessions.ready.look()
        assert w.sessions.ready.status(old) == ReadyStatus(most=1)
        assert w.runtime.instances[1].exited.done()
        second = await unnamed(w)
        assert second.version.version == new.version
        await kept(w, new)
        await w.store.update_agent(key().project, key().agent, is_enabled=False)
        await w.sessions.ready.look()
        assert w.sessions.ready.status(new).kept == 0


async def test_those_of_an_agent_that_is_deleted_are_gone_before_it_is(tmp_path: Path) -> None:
    async with world(tmp_path, ready_max=1) as w:
        version = await w.add_version()
        await unnamed(w)
        await kept(w, version)
        await w.sessions.finish_deletions(key().project, key().agent)
        assert w.runtime.instances[1].exited.done()
        assert not w.runtime.specs[1].home.parent.exists()


async def test_a_session_that_is_made_by_request_is_one_that_was_ready(tmp_path: Path) -> None:
    async with world(tmp_path, ready_max=1) as w:
        version = await w.add_version()
        await w.sessions.create(key(new_session_id()), ANNA, is_named=False)
        await until(lambda: has_started(w, 1))
        await w.sessions.ready.look()
        await kept(w, version)
        waiting = w.runtime.specs[-1].key
        made = await w.sessions.create(key(new_session_id()), BERTA, is_named=False)
        assert made.key == waiting
        assert (made.owner, made.status) == (BERTA.identity.owner, SessionStatus.ACTIVE)
        assert w.sessions.is_running(made.key)


async def test_a_reload_ends_them_and_goes_on_without_if_it_fails(tmp_path: Path) -> None:
    async with world(tmp_path, ready_max=1) as w:
        version = await w.add_version()
        lease = await unnamed(w)
        await kept(w, version)
        w.runtime.may_stop.clear()
        quiet = asyncio.create_task(w.sessions.quiet(5.0))
        await w.runtime.instances[1].stop_asked.wait()
        assert not quiet.done()
        w.runtime.may_stop.set()
        await quiet
        assert not w.runtime.specs[1].home.parent.exists()
        (passed,) = w.sessions.leaving.pass_on()
        assert passed.data["key"][2] == lease.key.session_id
        await w.sessions.ready.look()
        assert len(w.runtime.specs) == 2
        w.sessions.leaving.take_back()
        await w.sessions.ready.look()
        await kept(w, version)


async def test_nothing_is_left_of_them_at_the_end(tmp_path: Path) -> None:
    async with world(tmp_path, ready_max=2) as w:
        version = await w.add_version()
        await unnamed(w)
        await kept(w, version)
        home = w.runtime.specs[1].home
    assert w.runtime.instances[1].exited.done()
    assert not home.parent.exists()
    assert list((tmp_path / "sessions" / ".ahead").glob("*/*")) == []


async def test_nothing_is_left_of_them_after_the_platform_was_killed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        homes = w.sessions.homes
        for home, node in (("abandoned", "node-9"), ("given", "node-9")):
            homes.prepare_ahead(home, node)  # type: ignore[arg-type]
            homes.prepare(home)
        homes.keep_ahead("given", "node-9")  # type: ignore[arg-type]
        upkeep = upkeep_of(w)
        await upkeep.begin(is_alone=True)
        assert not homes.path("abandoned").exists()
        assert homes.path("given").is_dir()
        await upkeep.aclose()


async def test_its_log_tells_how_it_came_to_be_somebodys(tmp_path: Path) -> None:
    async with world(tmp_path, ready_max=1) as w:
        version = await w.add_version()
        await unnamed(w)
        await kept(w, version)
        second = await unnamed(w)
        (home,) = (spec.home.parent.name for spec in w.runtime.specs if spec.key == second.key)
        entries = w.sessions.logs.of(home).read(Channel.SYSTEM, 0)
        assert "Given: to a caller who named no session; it was kept ready for 0.0 s" in [
            entry.message for entry in entries
        ]
