"""What a client gets to see of an agent's answer to its upgrade."""

import pytest

from trunkline.gateway.upgrade import answer_head
from trunkline.protocol.ids import AgentName, ProjectName, SessionId, SessionKey

KEY = SessionKey(ProjectName("default"), AgentName("echo"), SessionId("s-1"))
OURS = b"x-agent-session-id: s-1\r\nx-request-id: r-1"
PLAIN = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX-Own: 1"


def test_an_answer_is_passed_on_with_the_platforms_headers() -> None:
    assert answer_head(PLAIN, KEY, "r-1", None) == PLAIN + b"\r\n" + OURS + b"\r\n\r\n"


@pytest.mark.parametrize(
    "forged",
    [b"x-request-id: forged", b"X-Agent-Session-Id: forged", b"X-REQUEST-ID : forged",
     b" x-agent-session-id:forged"],
)  # fmt: skip
@pytest.mark.parametrize("sentinel", [None, "trunkline.ticket"])
def test_an_agents_own_of_the_same_name_are_dropped(forged: bytes, sentinel: str | None) -> None:
    answer = answer_head(PLAIN + b"\r\n" + forged, KEY, "r-1", sentinel)
    assert b"forged" not in answer
    assert answer == answer_head(PLAIN, KEY, "r-1", sentinel)


def test_a_name_within_a_value_drops_nothing() -> None:
    head = PLAIN + b"\r\nvary: x-request-id"
    assert answer_head(head, KEY, "r-1", None).startswith(head + b"\r\n")


def test_the_sentinel_is_the_answer_if_the_agent_chose_no_subprotocol() -> None:
    answer = answer_head(PLAIN, KEY, "r-1", "trunkline.ticket")
    assert b"\r\nsec-websocket-protocol: trunkline.ticket\r\n" in answer
    chosen = PLAIN + b"\r\nSec-WebSocket-Protocol: chat"
    assert b"trunkline.ticket" not in answer_head(chosen, KEY, "r-1", "trunkline.ticket")
