"""Autobahn's WebSocket cases: the agent host passes them, and the gateway changes no verdict."""

from pathlib import Path

import pytest

from tests.conformance.websocket.support import (
    Verdict,
    agent_process,
    port_of,
    run_cases,
    unacceptable,
)
from tests.support.gateway import NEW_PATH, Gateway, running_gateway
from trunkline.auth.caller import Caller
from trunkline.auth.verify import Later, TokenVerifier
from trunkline.runtimes.interface import Address

FOLDER = Path(__file__).parent
LIMITS, DEFLATE = ["9.*"], ["12.*", "13.*"]
#: Kinds of payload, and what the ends agree on.
DEFLATE_GROUPS = [f"12.{kind}" for kind in range(1, 6)] + [f"13.{kind}" for kind in range(1, 8)]
#: A good message is followed by a bad frame at once. What comes back first, the handler's echo
#: or the close frame, is chance; Autobahn finds the first OK and the second NON-STRICT.
RACES = frozenset(
    {"3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15"}
)


async def run_through_gateway(
    agent_url: str,
    report: Path,
    monkeypatch: pytest.MonkeyPatch,
    include: list[str],
    exclude: list[str],
    **settings: int,
) -> dict[str, Verdict]:
    """Run cases against a gateway in front of an agent."""
    async with running_gateway(Address(port=port_of(agent_url)), **settings) as gateway:
        _lend_token(gateway, monkeypatch)
        verdicts = await run_cases(
            f"ws://127.0.0.1:{gateway.port}{NEW_PATH}", report, include, exclude
        )
        await gateway.sessions.all_returned.wait()
    return verdicts


def _lend_token(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    # The cases' client can't send headers. A verifier that is handed a token leaves every byte
    # between client and gateway as it was, which nothing put in between them would.
    look = TokenVerifier.look
    token = gateway.token()

    def look_at_anybody(self: TokenVerifier, given: str | None) -> Caller | Later:
        return look(self, given or f"Bearer {token}")

    monkeypatch.setattr(TokenVerifier, "look", look_at_anybody)


def without_races(verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
    """Return the verdicts with those that depend on chance made the same."""
    return {
        case: Verdict("OK", verdict.close, verdict.code)
        if case in RACES and verdict.behavior == "NON-STRICT"
        else verdict
        for case, verdict in verdicts.items()
    }


async def compare(
    script: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    include: list[str],
    exclude: list[str],
    **settings: int,
) -> dict[str, Verdict]:
    """Assert that the gateway changes no verdict, and return the agent's own."""
    with agent_process(FOLDER / script, folder / "agent.log") as url:
        direct = await run_cases(url, folder / "direct", include, exclude)
        through = await run_through_gateway(
            url, folder / "through", monkeypatch, include, exclude, **settings
        )
    assert without_races(through) == without_races(direct)
    return direct


async def test_the_host_passes_and_the_gateway_changes_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = await compare("echo_agent.py", tmp_path, monkeypatch, [], LIMITS + DEFLATE)
    assert len(direct) == 247
    assert unacceptable(direct) == {}


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_large_and_many_messages_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The largest frame has 16 MiB, and the gateway's limit is lower unless it is raised.
    direct = await compare(
        "echo_agent.py", tmp_path, monkeypatch, LIMITS, [], max_frame_bytes=16 * 1024 * 1024
    )
    assert len(direct) == 54
    assert unacceptable(direct) == {}


@pytest.mark.long
@pytest.mark.timeout(1200)
async def test_compression_is_agreed_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small, middling and fragmented messages of each kind: all 216 take a quarter of an hour,
    # nearly all of it in the agent's own compressing. The first two of each kind fail when they
    # aren't through in a minute, which says more about the machine than about the protocol.
    cases = [f"{group}.{number}" for group in DEFLATE_GROUPS for number in (4, 6, 12)]
    direct = await compare("deflate_agent.py", tmp_path, monkeypatch, cases, [])
    assert len(direct) == len(cases)
    assert unacceptable(direct) == {}


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_host_without_compression_declines_it_through_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = await compare("echo_agent.py", tmp_path, monkeypatch, DEFLATE, [])
    assert {verdict.behavior for verdict in direct.values()} == {"UNIMPLEMENTED"}
