"""Sessions are started once, kept while they are used, and stopped when they aren't."""

import asyncio
import datetime as dt
import stat
from pathlib import Path

import pytest

from tests.unit.sessions.support import (
    ANNA,
    BERTA,
    LAUNCH,
    key,
    metric,
    new_version,
    upkeep_of,
    world,
)
from trunkline.protocol.errors import (
    AgentNotFoundError,
    ProtocolNotDeclaredError,
    SessionNotAccessibleError,
    SessionNotReadyError,
    TrunklineError,
    UnavailableError,
    VersionFailedError,
    VersionNotReadyError,
)
from trunkline.runtimes.interface import ExitStatus
from trunkline.sessions.directory import new_session_id
from trunkline.sessions.log import Channel
from trunkline.store.records import SessionStatus

FOR_EVER = 1000.0


def test_a_new_session_id_is_32_hex_digits_and_never_the_same() -> None:
    ids = {new_session_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(text) == 32 and text == text.lower() and int(text, 16) >= 0 for text in ids)


async def test_a_lease_says_where_the_agent_is(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        version = await w.add_version()
        lease = await w.acquire()
        (instance,), (spec,) = w.runtime.instances, w.runtime.specs
        assert (lease.address, lease.key, lease.version) == (instance.address, key(), version)
        assert (spec.key, spec.version, spec.launch) == (key(), "1", LAUNCH)
        assert spec.home.is_dir()
        assert stat.S_IMODE(spec.home.stat().st_mode) == 0o700
        assert w.sessions_dir in spec.home.parents
        assert w.sessions.is_running(key())
        assert not w.sessions.is_running(key("other"))
        assert metric(w.metrics, "trunkline_sessions_running") == 1
        instance.crash()
        assert await lease.wait_exited() == ExitStatus(code=3)


async def test_the_session_is_recorded_with_its_owner(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        before = dt.datetime.now(dt.UTC)
        lease = await w.acquire()
        record = await w.store.find_session(key())
        assert record is not None
        assert (record.owner, record.version) == (ANNA.identity.owner, "1")
        assert record.status is SessionStatus.ACTIVE
        assert before <= record.created_at <= record.last_accessed_at <= dt.datetime.now(dt.UTC)
        lease.release()


async def test_the_settings_reach_the_runtime(tmp_path: Path) -> None:
    async with world(tmp_path, ready_timeout_s=7.0, stop_timeout_s=8.0) as w:
        await w.add_version()
        await w.acquire()
        assert (w.runtime.specs[0].ready_timeout_s, w.runtime.specs[0].stop_timeout_s) == (7.0, 8.0)


async def test_many_at_once_share_one_start(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        w.runtime.may_start.clear()
        asking = [asyncio.create_task(w.acquire()) for _ in range(20)]
        await w.runtime.begun.wait()
        w.runtime.may_start.set()
        leases = await asyncio.gather(*asking)
        assert len(w.runtime.specs) == 1
        assert {lease.address for lease in leases} == {w.runtime.instances[0].address}
        assert metric(w.metrics, 'trunkline_session_starts_total{outcome="ready"}') == 1


async def test_other_sessions_have_processes_of_their_own(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        leases = await asyncio.gather(w.acquire("a"), w.acquire("b"), w.acquire("A"))
        assert len({lease.address for lease in leases}) == 3
        assert len({spec.home for spec in w.runtime.specs}) == 3


async def test_a_failed_start_reaches_all_who_wait_and_the_next_one_starts_anew(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        w.runtime.may_start.clear()
        w.runtime.error = SessionNotReadyError("it ended with exit code 1")
        asking = [asyncio.create_task(w.acquire()) for _ in range(5)]
        await w.runtime.begun.wait()
        w.runtime.may_start.set()
        errors = await asyncio.gather(*asking, return_exceptions=True)
        assert len(w.runtime.specs) <= 2
        for error in errors:
            assert type(error) is SessionNotReadyError
            assert "exit code 1" in str(error)
            assert "trunkline monitor echo --session-id s" in str(error)
        record = await w.store.find_session(key())
        assert record is not None
        assert record.status is SessionStatus.FAILED
        w.runtime.error = None
        before = len(w.runtime.specs)
        lease = await w.acquire()
        assert len(w.runtime.specs) == before + 1
        assert lease.address == w.runtime.instances[0].address
        record = await w.store.find_session(key())
        assert record is not None
        assert record.status is SessionStatus.ACTIVE


async def test_a_failed_start_is_forgotten(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        w.runtime.error = SessionNotReadyError("no")
        with pytest.raises(SessionNotReadyError):
            await w.acquire()
        assert not w.sessions._processes._slots


async def test_a_start_that_fails_after_its_only_client_left_is_forgotten(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        w.runtime.may_start.clear()
        w.runtime.error = SessionNotReadyError("no")
        asking = asyncio.create_task(w.acquire())
        await w.runtime.begun.wait()
        start = w.sessions._processes._slots[key()].starting
        assert start is not None
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        w.runtime.may_start.set()
        await asyncio.wait([start])
        await w.store.ping()
        assert not w.sessions._processes._slots


async def test_a_client_that_leaves_does_not_end_the_start_for_the_rest(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        w.runtime.may_start.clear()
        first, second = asyncio.create_task(w.acquire()), asyncio.create_task(w.acquire())
        await w.runtime.begun.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        w.runtime.may_start.set()
        await second
        assert w.runtime.cancelled_starts == 0
        assert len(w.runtime.specs) == 1


async def test_a_start_whose_only_client_left_is_there_for_the_next(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        w.runtime.may_start.clear()
        first = asyncio.create_task(w.acquire())
        await w.runtime.begun.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(w.acquire())
        w.runtime.may_start.set()
        await second
        assert (w.runtime.cancelled_starts, len(w.runtime.specs)) == (0, 1)


async def test_a_start_whose_only_client_left_idles_out(tmp_path: Path) -> None:
    async with world(tmp_path, idle_timeout_s=0.01) as w:
        await w.add_version()
        w.runtime.may_start.clear()
        asking = asyncio.create_task(w.acquire())
        await w.runtime.begun.wait()
        start = w.sessions._processes._slots[key()].starting
        assert start is not None
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        w.runtime.may_start.set()
        await start
        await w.runtime.instances[0].stop_asked.wait()


async def test_an_idle_session_is_stopped_and_comes_back_with_its_home(tmp_path: Path) -> None:
    async with world(tmp_path, idle_timeout_s=0.01) as w:
        await w.add_version()
        lease = await w.acquire()
        (w.runtime.specs[0].home / "kept").write_text("yes")
        lease.release()
        lease.release()
        await w.runtime.instances[0].stop_asked.wait()
        await w.until_settled()
        record = await w.store.find_session(key())
        assert record is not None
        assert record.status is SessionStatus.IDLE
        assert metric(w.metrics, "trunkline_sessions_running") == 0
        again = await w.acquire()
        assert again.address == w.runtime.instances[1].address
        assert (w.runtime.specs[1].home / "kept").read_text() == "yes"
        log = w.sessions.logs.of(record.home)
        entries = log.read(Channel.SYSTEM, 0)
        assert any("Idle: no connection for 0.01 s (idle_timeout_s)" in e.message for e in entries)


async def test_a_lease_keeps_the_session_from_idling(tmp_path: Path) -> None:
    async with world(tmp_path, idle_timeout_s=0.01) as w:
        await w.add_version()
        one, two = await w.acquire("kept"), await w.acquire("kept")
        one.release()
        one.release()
        # A clock started later, and run out: one of the first session's would have run out too.
        for name in ("b", "c"):
            (await w.acquire(name)).release()
            await w.runtime.instances[-1].stop_asked.wait()
        assert not w.runtime.instances[0].stop_asked.is_set()
        two.release()
        await w.runtime.instances[0].stop_asked.wait()


async def test_a_session_used_again_in_time_is_not_stopped(tmp_path: Path) -> None:
    async with world(tmp_path, idle_timeout_s=0.05) as w:
        await w.add_version()
        (await w.acquire("kept")).release()
        lease = await w.acquire("kept")
        (await w.acquire("b")).release()
        await w.runtime.instances[1].stop_asked.wait()
        assert not w.runtime.instances[0].stop_asked.is_set()
        lease.release()


@pytest.mark.parametrize(
    ("own", "platform"), [(0.01, FOR_EVER), (FOR_EVER, 0.01)], ids=["shorter", "longer"]
)
async def test_the_definitions_idle_timeout_wins(
    tmp_path: Path, own: float, platform: float
) -> None:
    async with world(tmp_path, idle_timeout_s=platform) as w:
        await w.add_version(session_configuration={"idle_timeout_seconds": own})
        (await w.acquire("own")).release()
        if own < platform:
            await w.runtime.instances[0].stop_asked.wait()
            return
        await w.add_version()
        (await w.acquire("platforms")).release()
        await w.runtime.instances[1].stop_asked.wait()
        assert not w.runtime.instances[0].stop_asked.is_set()


async def test_an_acquire_while_it_stops_waits_for_that_and_starts_anew(tmp_path: Path) -> None:
    async with world(tmp_path, idle_timeout_s=0.01) as w:
        await w.add_version()
        (await w.acquire()).release()
        w.runtime.may_stop.clear()
        await w.runtime.instances[0].stop_asked.wait()
        asking = asyncio.create_task(w.acquire())
        await w.acquire("other")
        assert not asking.done()
        assert [spec.key.session_id for spec in w.runtime.specs] == ["s", "other"]
        w.runtime.may_stop.set()
        lease = await asking
        assert w.runtime.instances[0].exited.done()
        assert lease.address == w.runtime.instances[2].address
        assert w.sessions.is_running(key())
        assert metric(w.metrics, "trunkline_sessions_running") == 2


async def test_a_crashed_session_is_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        old = await w.acquire()
        w.runtime.instances[0].crash()
        assert await old.wait_exited() == ExitStatus(code=3)
        await w.until_settled()
        new = await w.acquire()
        assert new.address == w.runtime.instances[1].address
        old.release()
        assert w.sessions.is_running(key())
        assert metric(w.metrics, "trunkline_sessions_running") == 1
        assert "ended by itself, exit code 3" in caplog.text


async def test_a_crash_with_nobody_there_is_forgotten(tmp_path: Path) -> None:
    async with world(tmp_path, idle_timeout_s=FOR_EVER) as w:
        await w.add_version()
        (await w.acquire()).release()
        w.runtime.instances[0].crash()
        await w.until_settled()
        record = await w.store.find_session(key())
        assert record is not None
        assert record.status is SessionStatus.IDLE
        assert not w.sessions._processes._slots


async def test_a_stopped_session_is_forgotten(tmp_path: Path) -> None:
    async with world(tmp_path, idle_timeout_s=0.01) as w:
        await w.add_version()
        (await w.acquire()).release()
        await w.runtime.instances[0].stop_asked.wait()
        await w.until_settled()
        assert not w.sessions._processes._slots


async def test_a_session_is_its_owners_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        await w.acquire()
        with pytest.raises(SessionNotAccessibleError) as caught:
            await w.acquire(caller=BERTA)
        assert ANNA.identity.subject not in str(caught.value)
        assert caught.value.status == 403
        assert len(w.runtime.specs) == 1


async def test_two_who_ask_for_one_new_session_at_once_do_not_share_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        results = await asyncio.gather(w.acquire(), w.acquire(caller=BERTA), return_exceptions=True)
        assert [type(r) for r in results].count(SessionNotAccessibleError) == 1
        assert len(w.runtime.specs) == 1


async def test_an_unknown_agent(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        with pytest.raises(AgentNotFoundError, match="trunkline list"):
            await w.acquire()
        assert await w.store.find_session(key()) is None


async def test_a_version_still_being_built(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.store.add_version(new_version())
        with pytest.raises(VersionNotReadyError, match="still being built"):
            await w.acquire()
        assert await w.store.find_session(key()) is None


async def test_a_version_that_could_not_be_built_says_why(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        record, _ = await w.store.add_version(new_version())
        await w.store.finish_version(record, error="no package is called nope")
        with pytest.raises(VersionFailedError, match="no package is called nope"):
            await w.acquire()


async def test_an_older_version_serves_while_the_next_is_built(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        await w.store.add_version(new_version(cpu="2"))
        assert (await w.acquire()).version.version == "1"


async def test_a_session_keeps_its_version_and_new_ones_get_the_latest(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        await w.acquire("old")
        await w.add_version(cpu="2")
        assert (await w.acquire("old")).version.version == "1"
        assert (await w.acquire("new")).version.version == "2"


async def test_a_protocol_that_is_not_declared(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version(protocol_versions=[{"protocol": "invocations", "version": "2.0.0"}])
        with pytest.raises(
            ProtocolNotDeclaredError, match=r"invocations_ws; .* declares invocations"
        ):
            await w.acquire()
        assert not w.runtime.specs
        assert (await w.acquire(protocol="invocations")).version.version == "1"


async def test_a_refused_protocol_leaves_no_session_behind(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version(protocol_versions=[{"protocol": "invocations", "version": "2.0.0"}])
        with pytest.raises(ProtocolNotDeclaredError):
            await w.acquire()
        assert await w.store.find_session(key()) is None


async def test_closing_during_a_start_ends_it_and_tells_who_waits(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        w.runtime.may_start.clear()
        asking = asyncio.create_task(w.acquire())
        await w.runtime.begun.wait()
        await w.sessions.aclose()
        await asyncio.wait([asking])
        assert w.runtime.cancelled_starts == 1
        assert not asking.cancelled(), "the waiter was cancelled, and nobody cancelled it"
        assert isinstance(asking.exception(), TrunklineError)


async def test_closing_stops_what_runs_and_takes_nothing_new(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        lease = await w.acquire()
        await w.sessions.aclose()
        await w.sessions.aclose()
        assert w.runtime.instances[0].exited.done()
        lease.release()
        with pytest.raises(UnavailableError):
            await w.acquire()
        await upkeep_of(w).aclose()
        record = await w.store.find_session(key())
        assert record is not None
        assert record.status is SessionStatus.IDLE


async def test_a_start_that_breaks_in_an_unforeseen_way_does_not_stick(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as w:
        await w.add_version()
        w.runtime.error = OSError(28, "No space left on device")
        with pytest.raises(OSError, match="No space"):
            await w.acquire()
        w.runtime.error = None
        await w.acquire()
        assert len(w.runtime.specs) == 2
        assert "start:default/echo/s failed" in caplog.text
