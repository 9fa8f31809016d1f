"""Tasks belong to somebody, and end with them."""

import asyncio
import logging

import pytest

from trunkline.aio.tasks import TaskOwner
from trunkline.protocol.errors import SessionNotReadyError


async def for_ever(began: asyncio.Event) -> None:
    began.set()
    await asyncio.Event().wait()


async def fail(error: Exception) -> None:
    raise error


async def test_a_task_has_its_name_and_its_result() -> None:
    owner = TaskOwner()

    async def work() -> int:
        return 7

    task = owner.spawn(work(), name="a name")
    assert task.get_name() == "a name"
    assert await task == 7
    await owner.aclose()


async def test_closing_cancels_what_runs_and_waits_for_it() -> None:
    owner, began, cleaned = TaskOwner(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await for_ever(began)
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    task = owner.spawn(work(), name="w")
    await began.wait()
    await owner.aclose()
    assert task.cancelled()
    assert cleaned.is_set()
    await owner.aclose()


async def test_closing_with_nothing_to_do_is_fine() -> None:
    owner = TaskOwner()
    await owner.aclose()
    await owner.aclose()


async def test_an_unforeseen_failure_is_logged_with_its_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    owner = TaskOwner()
    task = owner.spawn(fail(ZeroDivisionError("oops")), name="broken")
    await asyncio.wait([task])
    await asyncio.sleep(0)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "task broken failed")
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    await owner.aclose()


async def test_a_failure_on_purpose_is_a_line_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    owner = TaskOwner()
    task = owner.spawn(fail(SessionNotReadyError("not yet")), name="start:s")
    await asyncio.wait([task])
    await asyncio.sleep(0)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.INFO, "task start:s: not yet")
    assert not record.exc_info


async def test_a_failure_while_closing_does_not_keep_the_others_from_ending() -> None:
    owner, began = TaskOwner(), asyncio.Event()

    async def stubborn() -> None:
        try:
            await for_ever(asyncio.Event())
        finally:
            raise ZeroDivisionError

    tasks = [owner.spawn(stubborn(), name="s"), owner.spawn(for_ever(began), name="f")]
    await began.wait()
    await owner.aclose()
    assert all(task.done() for task in tasks)


async def test_a_cancelled_task_is_nothing_to_log(caplog: pytest.LogCaptureFixture) -> None:
    owner, began = TaskOwner(), asyncio.Event()
    owner.spawn(for_ever(began), name="f")
    await began.wait()
    await owner.aclose()
    await asyncio.sleep(0)
    assert caplog.records == []
