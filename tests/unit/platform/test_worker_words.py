"""What goes between the main process and its workers comes out as it went in."""

import datetime as dt
import json
from typing import Any

import pytest

from trunkline.gateway.responses import refusal
from trunkline.platform.workers.words import error_from, error_words, record_from, record_words
from trunkline.protocol import errors
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionId, SessionKey
from trunkline.sessions.elsewhere import SessionElsewhereError
from trunkline.store.records import (
    ApiKeyRecord,
    AuditRecord,
    NodeRecord,
    RevocationRecord,
    TicketRecord,
)

KEY = SessionKey(ProjectName("p"), AgentName("a"), SessionId("s"))
AT = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)


def through_json(words: Any) -> Any:
    return json.loads(json.dumps(words))


def all_errors() -> list[TrunklineError]:
    made: list[TrunklineError] = []
    for kind in vars(errors).values():
        if not (isinstance(kind, type) and issubclass(kind, TrunklineError)):
            continue
        if kind is errors.MethodNotAllowedError:
            made.append(kind("no", allowed=["PUT", "GET"]))  # type: ignore[call-arg]
        elif kind in (errors.RateLimitedError, errors.SessionFailingError):
            made.append(kind("no", retry_after_s=7))  # type: ignore[call-arg]
        elif kind is errors.InvalidRequestError:
            made.append(kind("no", param="user"))  # type: ignore[call-arg]
        else:
            made.append(kind('no: "it" isn\'t'))
    made.append(errors.TooManyConnectionsError("full").by_limit("max_connections"))
    return made


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_one_there(error: TrunklineError) -> None:
    there = error_from(through_json(error_words(error)))
    assert type(there) is type(error)
    assert str(there) == str(error)
    assert there.limit == error.limit
    assert refusal(there) == refusal(error)


def test_a_session_that_is_elsewhere() -> None:
    there = error_from(through_json(error_words(SessionElsewhereError(KEY, NodeId("n1")))))
    assert isinstance(there, SessionElsewhereError)
    assert (there.key, there.node) == (KEY, "n1")


@pytest.mark.parametrize(
    "record",
    [
        TicketRecord(digest="d", key=KEY, origin=None, caller={"grants": ["x"]}, expires_at=AT),
        ApiKeyRecord(
            key_id="k", project=ProjectName("p"), name="n", digest="d", grants=("a", "b"),
            created_by="me", created_at=AT, expires_at=AT,
        ),
        AuditRecord(
            entry_id="e", at=AT, project="p", agent=None, session_id=None, action="connect",
            status=101, identity="i|s", acting_for=None, credential=None, address="::1",
            request_id="r",
        ),
        NodeRecord(node=NodeId("n"), heartbeat_at=AT, url="http://127.0.0.1:1"),
        RevocationRecord(issuer="i", subject="s", revoked_at=AT, revoked_by="me"),
    ],
    ids=lambda record: type(record).__name__,
)  # fmt: skip
def test_a_record_is_the_same_one_there(record: Any) -> None:
    assert record_from(type(record), through_json(record_words(record))) == record
