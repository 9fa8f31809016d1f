"""The requests that agents are answering, and who may ask about them."""

import json

from trunkline.protocol.ids import AgentName, ProjectName, SessionId, SessionKey
from trunkline.sessions.calls import Calls

PROJECT, AGENT = ProjectName("default"), AgentName("echo")
MINE = SessionKey(PROJECT, AGENT, SessionId("mine"))
OTHER = SessionKey(PROJECT, AGENT, SessionId("other"))
ELSEWHERE = SessionKey(PROJECT, AgentName("parrot"), SessionId("mine"))


def test_a_call_stands_for_its_caller_where_it_is_answered() -> None:
    calls = Calls()
    calls.open("one", "olga", MINE)
    assert calls.owner_of("one", PROJECT, AGENT) == "olga"
    assert calls.owner_in("one", MINE) == "olga"
    assert calls.owner_in("one", OTHER) is None
    assert calls.owner_in("one", ELSEWHERE) is None
    assert calls.owner_of("one", PROJECT, ELSEWHERE.agent) is None
    assert calls.owner_of("two", PROJECT, AGENT) is calls.owner_in("two", MINE) is None
    for _ in range(2):
        calls.close("one")
    assert calls.owner_of("one", PROJECT, AGENT) is calls.owner_in("one", MINE) is None


def test_another_process_takes_them_over() -> None:
    calls, taken = Calls(), Calls()
    calls.open("one", "olga", MINE)
    taken.take_over(json.loads(json.dumps(calls.described())))
    assert taken.owner_in("one", MINE) == "olga"
    assert taken.owner_in("one", OTHER) is None


def test_a_process_that_was_older_says_less() -> None:
    calls = Calls()
    calls.take_over({"one": ["olga", "default", "echo"]})
    assert calls.owner_of("one", PROJECT, AGENT) == "olga"
    assert calls.owner_in("one", MINE) is None
