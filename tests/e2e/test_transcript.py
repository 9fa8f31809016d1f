"""The transcript sample with its real model: speech goes in, the same words come out."""

import asyncio
import json
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.platform import Platform
from tests.support.spoken import SAMPLE, clips_of, pause

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
SENTENCES = ["Tell me the weather in Paris.", "How many questions have I asked?"]
FRAME_BYTES = 960


async def speak(websocket: ClientConnection, pcm: bytes) -> None:
    """Send sound as a microphone does: 20 ms at a time, in real time."""
    clock = asyncio.get_running_loop().time
    begun = clock()
    for number, start in enumerate(range(0, len(pcm), FRAME_BYTES)):
        await websocket.send(pcm[start : start + FRAME_BYTES])
        await asyncio.sleep(max(0.0, begun + 0.02 * (number + 1) - clock()))


async def finals(websocket: ClientConnection, count: int) -> tuple[list[str], int]:
    """Return the next final lines, and how many partial ones came before them."""
    lines, partials = [], 0
    while len(lines) < count:
        event = json.loads(await websocket.recv())
        if event["type"] == "final":
            lines.append(event["text"])
        partials += event["type"] == "partial"
    return lines, partials


async def test_captions_are_what_was_said(platform: Platform, token: str, tmp_path: Path) -> None:
    clips = await asyncio.to_thread(clips_of, SENTENCES, tmp_path)
    await asyncio.to_thread(platform.deploy, SAMPLE.parent / "transcript")
    tickets = f"{platform.endpoint}/agents/transcript/endpoint/tickets?api-version=v1"
    bearer = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(trust_env=False, headers=bearer) as http:
        made = await http.post(tickets, json={"agent_session_id": "talk-1"})
    url = platform.websocket_url("transcript", "talk-1")
    reading = f"{url}&role=reader&ticket={made.json()['ticket']}"
    async with (
        platform.connect("transcript", "talk-1", token=token) as speaker,
        connect(reading, proxy=None) as reader,
    ):
        greeting = json.loads(await speaker.recv())
        assert greeting["role"] == "speaker"
        sound = b"".join(part for words in SENTENCES for part in (clips[words].pcm, pause(1.5)))
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            said = group.create_task(finals(speaker, 2))
            read = group.create_task(finals(reader, 2))
            await speak(speaker, pause(0.5) + sound)
        assert said.result()[0] == read.result()[0] == SENTENCES
        assert said.result()[1] > 2
