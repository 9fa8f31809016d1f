"""The demo's caller against an agent that only pretends: a real socket, and no models."""

import json
import struct
import sys
from array import array
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

sys.path.insert(0, str(Path(__file__).parents[3] / "samples" / "voice"))

from caller.call import CallError, call
from caller.clips import Clip
from caller.recording import Recording

LOUD, QUIET = array("h", [9_000] * 480).tobytes(), bytes(960)
QUESTION = Clip("Hello?", "person", LOUD * 5 + QUIET * 2, 0.0, 0.1)
ANSWER = struct.pack("<II", 24_000, 1) + LOUD * 2


class PretendedAgent:
    """Answers ten quiet frames after a loud one."""

    def __init__(self) -> None:
        self.headers = Headers()
        self.answer = ANSWER
        self.close_code: int | None = None
        self.refuses = False
        self.hangs_up = False

    def add_session_id(
        self, connection: ServerConnection, request: Request, response: Response
    ) -> None:
        self.headers = request.headers
        response.headers["x-agent-session-id"] = "abc"

    def may_come_in(self, connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(403, "not you\n") if self.refuses else None

    async def talk(self, websocket: ServerConnection) -> None:
        has_spoken, quiet = False, 0
        async for frame in websocket:
            if frame != QUIET and self.hangs_up:
                await websocket.close(1011, "out of memory")
            if frame != QUIET:
                has_spoken, quiet = True, 0
            elif has_spoken:
                quiet += 1
            if quiet == 10:
                has_spoken, quiet = False, 0
                await websocket.send(json.dumps({"type": "transcription", "text": "Hello"}))
                await websocket.send(json.dumps({"type": "bot_text", "text": "Good day."}))
                await websocket.send(self.answer)
                await websocket.send(json.dumps({"type": "response_done", "played_ms": 40}))
        self.close_code = websocket.close_code


@pytest.fixture
def agent() -> PretendedAgent:
    return PretendedAgent()


@pytest.fixture
async def url(agent: PretendedAgent) -> AsyncIterator[str]:
    server: Server
    async with serve(
        agent.talk,
        "127.0.0.1",
        0,
        process_request=agent.may_come_in,
        process_response=agent.add_session_id,
    ) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_question_and_its_answer(agent: PretendedAgent, url: str, tmp_path: Path) -> None:
    recording = Recording()
    async with call(url, "a-token", recording) as line:
        turn = await line.ask(QUESTION)
    assert line.session_id == "abc"
    assert agent.headers["authorization"] == "Bearer a-token"
    assert (turn.heard, turn.answer) == ("Hello", "Good day.")
    # Ten frames of quiet lie between the last loud one and the answer.
    assert 190 <= turn.first_audio_ms < 2_000
    assert turn.audio_s == pytest.approx(0.04)
    assert line.websocket.close_code == agent.close_code == 1000
    assert recording.write(tmp_path / "call.wav") > 0.3


async def test_audio_of_another_rate_is_said_to_be_wrong(agent: PretendedAgent, url: str) -> None:
    agent.answer = struct.pack("<II", 16_000, 1) + LOUD
    async with call(url, None, Recording()) as line:
        with pytest.raises(CallError, match="1 channels at 16000 Hz"):
            await line.ask(QUESTION)


async def test_a_refusal_is_told_with_its_words(agent: PretendedAgent, url: str) -> None:
    agent.refuses = True
    with pytest.raises(CallError, match="refused with 403: not you"):
        async with call(url, None, Recording()):
            pass


async def test_an_agent_that_hangs_up_is_noticed_at_once(agent: PretendedAgent, url: str) -> None:
    agent.hangs_up = True
    async with call(url, None, Recording()) as line:
        with pytest.raises(CallError, match=r"closed with 1011 \(out of memory\)"):
            await line.ask(QUESTION)
