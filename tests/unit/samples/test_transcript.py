"""The transcript sample on its real host, with a recogniser that only pretends."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trunkline.testing import running

SAMPLE = Path(__file__).parents[3] / "samples" / "transcript"
sys.path.insert(0, str(SAMPLE))

from captions import MOST_WAITING, Line, Reader, Room  # noqa: E402
from recognizer import Hear  # noqa: E402


class PretendedStreams:
    """Hears a word for each message: a partial one at first, final with an odd first byte."""

    def __init__(self) -> None:
        self.is_open = False

    async def open(self, hear: Hear) -> "PretendedStreams":
        self.hear, self.is_open = hear, True
        return self

    async def feed(self, pcm: bytes) -> None:
        self.hear(7 + pcm[2], pcm[4:].decode(), 0.5, 1.25, pcm[0] % 2 == 1)

    async def aclose(self) -> None:
        self.is_open = False


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("recognizer.MoonshineStreams", PretendedStreams)
    spec = importlib.util.spec_from_file_location("samples_transcript_main", SAMPLE / "main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sound(words: str, *, line: int = 0, is_final: bool = False) -> bytes:
    """Return a message of whole samples that the pretended recogniser hears."""
    return bytes([is_final, 0, line, 0]) + words.ljust(len(words) + len(words) % 2).encode()


async def events(websocket: Any, count: int) -> list[dict[str, Any]]:
    return [json.loads(await websocket.receive_text()) for _ in range(count)]


async def wait_for(websocket: Any, kind: str) -> dict[str, Any]:
    while True:
        (event,) = await events(websocket, 1)
        if event["type"] == kind:
            return event


async def test_what_one_says_is_read_by_all(sample: ModuleType) -> None:
    async with running(sample.app) as agent, agent.connect() as speaker:
        greeting = await wait_for(speaker, "session_started")
        assert (greeting["role"], greeting["sample_rate"], greeting["lines"]) == (
            "speaker",
            24_000,
            0,
        )
        async with agent.connect(query={"role": "reader"}) as reader:
            assert (await wait_for(reader, "session_started"))["role"] == "reader"
            assert (await wait_for(speaker, "readers"))["count"] == 1
            await speaker.send_bytes(sound("he"))
            await speaker.send_bytes(sound("hello", is_final=True))
            for websocket in (speaker, reader):
                partial = await wait_for(websocket, "partial")
                assert (partial["id"], partial["text"]) == (1, "he")
                final = await wait_for(websocket, "final")
                assert final == {
                    "type": "final", "id": 1, "text": "hello ", "begins_s": 0.5, "ends_s": 1.25
                }  # fmt: skip
        async with agent.connect() as late:
            assert (await wait_for(late, "session_started"))["lines"] == 1
            assert (await wait_for(late, "final"))["text"] == "hello "


async def test_who_reads_cant_speak(sample: ModuleType) -> None:
    async with running(sample.app) as agent, agent.connect() as speaker, agent.connect() as other:
        await wait_for(speaker, "session_started")
        assert (await wait_for(other, "session_started"))["role"] == "reader"
        await other.send_bytes(sound("me too", is_final=True))
        assert (await wait_for(other, "error"))["code"] == "read_only"
        assert sample.room.last_id == 0


async def test_the_speaker_comes_back_with_the_key_and_nobody_without(sample: ModuleType) -> None:
    async with running(sample.app) as agent:
        async with agent.connect() as speaker:
            key = (await wait_for(speaker, "session_started"))["key"]
            await speaker.send_bytes(sound("one", is_final=True))
            await wait_for(speaker, "final")
        for query in ({}, {"key": "wrong"}, {"role": "reader"}):
            async with agent.connect(query=query) as other:
                assert (await wait_for(other, "session_started"))["role"] == "reader"
        async with agent.connect(query={"key": key}) as speaker:
            assert (await wait_for(speaker, "session_started"))["role"] == "speaker"
            await speaker.send_bytes(sound("two", is_final=True))
            # The recogniser counts from the beginning again; lines don't.
            while (final := await wait_for(speaker, "final"))["text"] != "two ":
                assert final["id"] == 1
            assert final["id"] == 2
    assert not sample.streams.is_open


@pytest.mark.parametrize(
    ("message", "code"), [(b"\0", "bad_audio"), (bytes(65_538), "bad_audio"), ("words", "no_text")]
)
async def test_what_isnt_sound_is_refused_and_the_call_goes_on(
    sample: ModuleType, message: bytes | str, code: str
) -> None:
    async with running(sample.app) as agent, agent.connect() as speaker:
        if isinstance(message, str):
            await speaker.send_text(message)
        else:
            await speaker.send_bytes(message)
        assert (await wait_for(speaker, "error"))["code"] == code
        await speaker.send_bytes(sound("on", is_final=True))
        assert (await wait_for(speaker, "final"))["text"] == "on"


def test_a_reader_that_is_too_far_behind_is_sent_away(tmp_path: Path) -> None:
    room, reader, other = Room(tmp_path / "captions.jsonl"), Reader(), Reader()
    room.enter(reader)
    for number in range(MOST_WAITING - 2):
        room.hear(Line(id=number, text="x", begins_s=0, ends_s=1), is_final=True)
    assert not reader.is_too_slow.is_set()
    room.enter(other)
    assert reader.is_too_slow.is_set()
    assert not other.is_too_slow.is_set()


def test_what_was_said_and_who_may_speak_outlive_the_process(tmp_path: Path) -> None:
    file = tmp_path / "captions.jsonl"
    before = Room(file)
    key = before.take_place(None)
    before.hear(Line(id=1, text="kept", begins_s=0, ends_s=1), is_final=True)
    before.hear(Line(id=2, text="unfinished", begins_s=1, ends_s=2), is_final=False)
    with file.open("a") as half_written:
        half_written.write('{"id": 3, "te')
    after = Room(file)
    assert after.last_id == 1
    assert after.take_place(None) is None
    assert after.take_place(key) == key
