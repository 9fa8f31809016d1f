"""The signalling of the WebRTC sample, with a call that only pretends."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

SAMPLES = Path(__file__).parents[3] / "samples"
sys.path.insert(0, str(SAMPLES / "webrtc-signalling"))

from deploy import gather  # noqa: E402
from signalling import MAX_MESSAGE_CHARS, BadSignalError, Signalling  # noqa: E402

CANDIDATE = {"candidate": "candidate:1 1 udp 1 127.0.0.1 9 typ host", "sdpMid": "0"}


class PretendedCall:
    def __init__(self) -> None:
        self.candidates: list[dict[str, Any]] = []
        self.is_open = True

    async def answer(self, sdp: str) -> str:
        if sdp == "nonsense":
            raise BadSignalError("invalid_field", "sdp isn't an offer")
        return f"answer to {sdp}"

    async def add_candidate(self, candidate: dict[str, Any]) -> None:
        self.candidates.append(candidate)

    async def aclose(self) -> None:
        self.is_open = False


class Bench:
    def __init__(self) -> None:
        self.calls: list[PretendedCall] = []
        self.signalling = Signalling([{"urls": "turn:here"}], self._new)

    async def _new(self) -> PretendedCall:
        self.calls.append(PretendedCall())
        return self.calls[-1]

    async def ask(self, **question: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await self.signalling.reply(json.dumps(question)))
        return answer


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_call_from_its_beginning_to_its_end(bench: Bench) -> None:
    config = await bench.ask(action="ice_config")
    assert config == {"type": "ice_config", "iceServers": [{"urls": "turn:here"}]}
    assert await bench.ask(action="offer", sdp="o1") == {"type": "answer", "sdp": "answer to o1"}
    assert await bench.ask(action="ice_candidate", candidate=CANDIDATE) == {"type": "ok"}
    assert bench.calls[0].candidates == [CANDIDATE]
    assert await bench.ask(action="disconnect") == {"type": "closed"}
    assert not bench.calls[0].is_open
    assert await bench.ask(action="disconnect") == {"type": "closed"}


async def test_a_second_offer_is_a_new_call(bench: Bench) -> None:
    await bench.ask(action="offer", sdp="o1")
    await bench.ask(action="offer", sdp="o2")
    assert [call.is_open for call in bench.calls] == [False, True]


async def test_the_call_ends_with_the_connection(bench: Bench) -> None:
    await bench.ask(action="offer", sdp="o1")
    await bench.signalling.aclose()
    await bench.signalling.aclose()
    assert not bench.calls[0].is_open


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ({"action": "ice_candidate", "candidate": CANDIDATE}, "no_call"),
        ({"action": "offer"}, "invalid_field"),
        ({"action": "offer", "sdp": ""}, "invalid_field"),
        ({"action": "offer", "sdp": "nonsense"}, "invalid_field"),
        ({"action": "dance"}, "unknown_action"),
        ({}, "unknown_action"),
    ],
)
async def test_what_cant_be_used_is_answered_with_an_error(
    bench: Bench, question: dict[str, Any], code: str
) -> None:
    answer = await bench.ask(**question)
    assert (answer["type"], answer["code"]) == ("error", code)
    assert (await bench.ask(action="offer", sdp="o1"))["type"] == "answer"


@pytest.mark.parametrize("message", ["", "{", "[]", "7", "[" * 20_000])
async def test_what_isnt_a_json_object_is_answered_with_an_error(
    bench: Bench, message: str
) -> None:
    assert json.loads(await bench.signalling.reply(message))["code"] == "invalid_json"


async def test_a_message_that_is_too_long_isnt_read(bench: Bench) -> None:
    answer = await bench.signalling.reply('"' + "x" * MAX_MESSAGE_CHARS + '"')
    assert json.loads(answer)["code"] == "too_long"


@pytest.mark.parametrize("candidate", [None, "text", {}, {"candidate": 5}])
async def test_a_candidate_has_its_text(bench: Bench, candidate: Any) -> None:
    await bench.ask(action="offer", sdp="o1")
    answer = await bench.ask(action="ice_candidate", candidate=candidate)
    assert answer["code"] == "invalid_field"


def test_what_is_deployed_is_all_that_is_imported(tmp_path: Path) -> None:
    servers = '[{"urls": "turn:here"}]'
    gather(tmp_path, {"WEBRTC_ICE_SERVERS": servers})
    manifest = YAML().load(tmp_path / "agent.yaml")
    values = {item["name"]: item["value"] for item in manifest["environment_variables"]}
    assert (values["WEBRTC_ADDRESSES"], values["WEBRTC_ICE_SERVERS"]) == ("", servers)
    names = {path.stem for path in tmp_path.glob("*.py")}
    assert {"main", "peer", "signalling", "conversation", "wire"} <= names
    for path in tmp_path.rglob("*.py"):
        for line in path.read_text().splitlines():
            if line.startswith("from ") and (SAMPLES / "voice" / f"{line.split()[1]}.py").exists():
                assert line.split()[1] in names, f"{path.name} imports {line.split()[1]}"
