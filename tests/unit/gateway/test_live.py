"""What goes on now: which ends are failures, and for how long a failure is of today."""

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest

from trunkline.gateway.live import ErrorsToday, LiveConnections, is_failure
from trunkline.gateway.summary import ClosedBy, Summary
from trunkline.protocol.ids import AgentName, ProjectName, SessionId, SessionKey
from trunkline.sessions.live import AgentNow

DEFAULT, ECHO, OTHER = ProjectName("default"), AgentName("echo"), AgentName("other")


def summary(code: int, by: ClosedBy) -> Summary:
    return Summary(
        frames_in=0, frames_out=0, bytes_in=0, bytes_out=0, age_s=1.0, quiet_in_s=None,
        quiet_out_s=None, by=by, code=code, reason="", limit="", was_cut=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "by", "expected"),
    [
        (1000, ClosedBy.AGENT, False),
        (1001, ClosedBy.DRAIN, False),
        (1006, ClosedBy.AGENT, True),
        (1006, ClosedBy.NETWORK, False),
        (1009, ClosedBy.LIMIT, False),
        (1011, ClosedBy.AGENT, True),
        (1011, ClosedBy.CLIENT, True),
        (1014, ClosedBy.NETWORK, True),
        (4001, ClosedBy.AGENT, False),
    ],
)
def test_which_ends_are_failures(code: int, by: ClosedBy, expected: bool) -> None:
    assert is_failure(summary(code, by)) is expected


def test_errors_are_of_today() -> None:
    days = [dt.date(2030, 1, 1)]
    errors = ErrorsToday(lambda: days[-1])
    errors.add(DEFAULT, ECHO)
    errors.add(DEFAULT, ECHO)
    assert errors.all() == {(DEFAULT, ECHO): 2}
    days.append(dt.date(2030, 1, 2))
    assert errors.all() == {}
    errors.add(DEFAULT, OTHER)
    assert errors.all() == {(DEFAULT, OTHER): 1}


def connection(session: str, agent: AgentName, opened_at: str, *, is_local: bool = True) -> Any:
    key = SessionKey(DEFAULT, agent, SessionId(session))
    event = {"opened_at": opened_at}
    return SimpleNamespace(agent=SimpleNamespace(key=key, is_local=is_local), so_far=lambda: event)


async def test_connections_are_told_by_session_and_counted_where_the_session_runs() -> None:
    errors = ErrorsToday()
    errors.add(DEFAULT, OTHER)
    relayed = [
        connection("s1", ECHO, "2030-01-01T00:00:01Z"),
        connection("s1", ECHO, "2030-01-01T00:00:03Z"),
        connection("s2", ECHO, "2030-01-01T00:00:02Z"),
        connection("s3", ECHO, "2030-01-01T00:00:02Z", is_local=False),
        connection("s4", OTHER, "2030-01-01T00:00:02Z"),
    ]
    live = LiveConnections(relayed, errors)  # type: ignore[arg-type]
    assert await live.agents() == {
        (DEFAULT, ECHO): AgentNow(3, 0),
        (DEFAULT, OTHER): AgentNow(1, 1),
    }
    found = await live.connections(DEFAULT, ECHO)
    assert {key.session_id: [event["opened_at"][17:19] for event in events]
            for key, events in found.items()} == {"s1": ["03", "01"], "s2": ["02"]}  # fmt: skip
