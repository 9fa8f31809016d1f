"""Connections' ends in words."""

import inspect
import re
from typing import Any

import pytest

from trunkline.cli import endings
from trunkline.client import EndedConnection
from trunkline.gateway import overdue, relay
from trunkline.gateway.settings import GatewaySettings
from trunkline.gateway.summary import ClosedBy
from trunkline.protocol.close import WORKER_ENDED


def end(**given: Any) -> EndedConnection:
    return EndedConnection.read(given)


@pytest.mark.parametrize(
    ("given", "happened", "advice"),
    [
        (
            {"closed_by": "client", "code": 1000},
            "the client closed it with 1000: the conversation ended normally",
            "",
        ),
        (
            {"closed_by": "agent", "code": 4004, "reason": "enough"},
            "the agent closed it with 4004: 'enough'",
            "",
        ),
        (
            {"closed_by": "agent", "code": 1011, "reason": "the agent's process ended: code 1"},
            'the agent closed it with 1011: "the agent\'s process ended: code 1"',
            "`trunkline monitor bot --session-id s` shows what the agent printed",
        ),
        (
            {"closed_by": "agent", "code": 1006, "reason": "the agent went away inside a frame"},
            "the agent went away with 1006: 'the agent went away inside a frame'",
            "`trunkline monitor bot --session-id s` shows what the agent printed",
        ),
        (
            {"closed_by": "network", "code": 1006, "reason": "the client went away"},
            "the connection was lost: the client went away; there was no close frame (1006)",
            "the client or the network between went away without a word; connect again with the "
            "same session id; the session and its files are kept",
        ),
        (
            {"closed_by": "network", "code": 1006, "reason": WORKER_ENDED},
            f"the connection was lost: {WORKER_ENDED}; there was no close frame (1006)",
            "the platform's log says why its worker ended; connect again with the same session "
            "id; the session and its files are kept",
        ),
        (
            {"closed_by": "drain", "code": 1001, "reason": "restarting"},
            "the platform, told to stop, closed it with 1001: 'restarting'",
            "connect again with the same session id; the session and its files are kept",
        ),
        (
            {
                "closed_by": "limit",
                "code": 1009,
                "reason": "too long",
                "limit": {"name": "max_frame_bytes", "setting": "THE_SETTING"},
            },
            "the limit max_frame_bytes closed it with 1009: 'too long'",
            "send the message in several frames, or raise THE_SETTING",
        ),
        (
            {"closed_by": "fate", "code": 9},
            "fate closed it with 9: a code without a meaning known here",
            "",
        ),
        ({}, "somebody closed it with 0: a code without a meaning known here", ""),
    ],
)
def test_words(given: dict[str, Any], happened: str, advice: str) -> None:
    assert endings.what_happened(end(**given)) == happened
    assert endings.what_to_do(end(**given), "bot", "s") == advice


def test_there_is_advice_for_each_limit_of_a_connection() -> None:
    named = {*re.findall(r'limit="(\w+)"', inspect.getsource(relay))}
    named |= {*re.findall(r'_over\(\s+CloseCode\.\w+,\s+"(\w+)"', inspect.getsource(overdue))}
    assert named == {
        "max_frame_bytes",
        "max_frames_per_s",
        "max_connection_s",
        "idle_connection_s",
        "stalled_reader_s",
    }
    for name in named:
        assert hasattr(GatewaySettings(), name)
        assert name in endings._ABOUT_LIMITS


def test_everybody_who_may_close_has_words() -> None:
    assert {by.value for by in ClosedBy} == set(endings._WHO)


def test_facts() -> None:
    told = endings.facts(
        end(
            **{
                "in": {"frames": 2, "bytes": 5000, "quiet_s": 4000},
                "was_cut": True,
                "version": "3",
                "address": "192.0.2.1",
                "request_id": "r",
            }
        )
    )
    assert told == [
        "client to agent: 2 frames, 4.9 KiB, the last 1 h 6 min before the end",
        "agent to client: nothing",
        "the close handshake wasn't over in close_timeout_s, and the rest was cut",
        "version 3, from 192.0.2.1, request r",
    ]
    assert len(endings.facts(end())) == 2


def test_what_is_no_time_is_shown_as_it_is() -> None:
    assert endings.time_text("soon") == "soon"


def test_of_a_worker_that_ended_no_counts_are_made_up() -> None:
    lost = {"closed_by": "network", "code": 1006, "reason": WORKER_ENDED, "version": "2"}
    assert endings.facts(end(**lost)) == ["version 2"]
