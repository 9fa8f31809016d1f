"""Microsoft's own samples do what their documentation says, with only their import line changed.

Each runs as a process, and is sent what its own text says to send. Those that can't run are listed
with the part of Microsoft's package that they need and trunkline doesn't have.
"""

import ast
import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection

from tests.conformance.microsoft.samples import Sample, serving, with_our_import
from tests.conformance.microsoft.sdists import ROOT, fetch, read_pins, unpack

RUN = {
    "async_invoke_agent",
    "multiturn_invoke_agent",
    "simple_invoke_agent",
    "streaming_invoke_agent",
    "ws_bidirectional_streaming_agent",
    "ws_invoke_agent",
}
#: What the others need: Microsoft's durable tasks, its client of the platform's storage, and its
#: layer of typed events for voice. A host has none of them.
TASKS = "azure.ai.agentserver.core.tasks"
STORAGE = "azure.ai.agentserver.core.storage"
VOICE = "azure.ai.agentserver.invocations.voice"
LEFT_OUT = {
    "basic_voice_agent": VOICE,
    "resilient_cancellable": TASKS,
    "resilient_hello_forever": TASKS,
    "resilient_hello_world": TASKS,
    "resilient_langgraph": TASKS,
    "resilient_multiturn": TASKS,
    "resilient_research": TASKS,
    "state_store_sample.py": STORAGE,
}
PAGE = ROOT / "docs" / "coming-from-azure-ai-agentserver.md"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All samples of both packages by name."""
    folder = tmp_path_factory.mktemp("samples")
    return {
        path.name: path
        for pin in read_pins().values()
        for path in (unpack(fetch(pin), folder) / "samples").iterdir()
    }


@pytest.fixture
async def sample(
    request: pytest.FixtureRequest, samples: dict[str, Path], tmp_path: Path
) -> AsyncIterator[Sample]:
    """The sample that the test names, serving."""
    name = request.param
    async with serving(samples[name] / f"{name}.py", tmp_path) as sample:
        yield sample


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sample", [name], indirect=True)


@of("simple_invoke_agent")
async def test_a_greeting(sample: Sample) -> None:
    async with sample.http() as client:
        answer = await client.post("/invocations", json={"name": "Alice"})
    assert answer.json() == {"greeting": "Hello, Alice!"}


@of("multiturn_invoke_agent")
async def test_a_conversation_of_three_turns(sample: Sample) -> None:
    said = ["I want to plan a vacation", "Japan for 2 weeks", "Budget is $5000"]
    async with sample.http() as client:
        answers = [
            (await client.post("/invocations?agent_session_id=trip-001", json={"message": text}))
            for text in said
        ]
        other = await client.post("/invocations?agent_session_id=trip-002", json={"message": "hi"})
    replies = [answer.json() for answer in answers]
    assert [reply["turn"] for reply in replies] == [1, 2, 3]
    assert "Where would you like to go" in replies[0]["reply"]
    assert "budget" in replies[1]["reply"]
    assert "3-turn conversation" in replies[2]["reply"]
    assert {reply["session_id"] for reply in replies} == {"trip-001"}
    assert {answer.headers["x-agent-session-id"] for answer in answers} == {"trip-001"}
    assert other.json()["turn"] == 1


@of("streaming_invoke_agent")
async def test_tokens_as_they_come(sample: Sample) -> None:
    parts = []
    async with (
        sample.http() as client,
        client.stream("POST", "/invocations", json={"prompt": "a Calculator class"}) as answer,
    ):
        async for part in answer.aiter_text():
            parts.append(part)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *tokens, done, rest = "".join(parts).split("\n\n")
    assert rest == ""
    text = "".join(json.loads(event.removeprefix("data: "))["token"] for event in tokens)
    assert text == "class Calculator:\n    def add(self, a, b):\n        return a + b\n"
    kind, data = done.split("\n")
    assert kind == "event: done"
    assert json.loads(data.removeprefix("data: ")) == {
        "invocation_id": answer.headers["x-agent-invocation-id"]
    }
    # It pauses after each token, and what it has said until then doesn't wait for the rest.
    assert len(parts) > 1


@of("async_invoke_agent")
async def test_long_work_is_polled_and_cancelled(sample: Sample) -> None:
    async with sample.http() as client:

        async def start() -> str:
            answer = await client.post("/invocations", json={"query": "analyze dataset"})
            known = answer.headers["x-agent-invocation-id"]
            assert answer.json() == {"invocation_id": known, "status": "running"}
            return str(known)

        kept, dropped = await start(), await start()
        assert kept != dropped
        answer = await client.get(f"/invocations/{kept}")
        assert answer.json() == {"invocation_id": kept, "status": "running"}
        answer = await client.post(f"/invocations/{dropped}/cancel")
        assert answer.json() == {"invocation_id": dropped, "status": "cancelled"}
        assert (await client.get(f"/invocations/{dropped}")).status_code == 404

        # Polling is what this sample is about.
        while (answer := await client.get(f"/invocations/{kept}")).json()["status"] == "running":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        assert answer.json() == {
            "invocation_id": kept,
            "status": "completed",
            "output": "Processed: {'query': 'analyze dataset'}",
        }
        answer = await client.post(f"/invocations/{kept}/cancel")
        assert answer.json()["error"] == "invocation already completed"


@of("ws_invoke_agent")
async def test_an_echo_over_both_protocols(sample: Sample) -> None:
    async with sample.http() as client:
        assert (await client.get("/readiness")).status_code == 200
        answer = await client.post("/invocations", json={"name": "Alice"})
        assert answer.json() == {"echo": {"name": "Alice"}}
    async with sample.websocket() as client:
        for text in ("hello", "grüße", "x" * 100_000):
            await client.send(text)
            assert await client.recv() == text
    assert client.close_code == 1000


@of("ws_bidirectional_streaming_agent")
async def test_two_streams_at_once_and_one_cancelled(sample: Sample) -> None:
    async with sample.http() as client:
        assert (await client.post("/invocations", json=[1])).json() == {"echo": [1]}
    async with sample.websocket() as client:
        assert json.loads(await client.recv()) == {"type": "ready"}
        await client.send("{")
        assert json.loads(await client.recv()) == {"type": "error", "message": "invalid JSON"}
        await say(client, type="prompt", id="p1", text="Tell me a story")
        await say(client, type="prompt", id="p2", text="And another")
        talking: set[str] = set()
        while talking != {"p1", "p2"}:
            message = await heard(client)
            assert message["type"] == "token"
            talking.add(message["id"])
        await say(client, type="cancel", id="p1")
        while (message := await heard(client))["type"] != "cancelled":
            pass
        assert message["id"] == "p1"
        while (message := await heard(client))["type"] == "token":
            assert message["id"] == "p2"
        assert message == {"type": "done", "id": "p2"}
        await say(client, type="prompt", id="p3", text="One more")
        await say(client, type="bye")
        async for text in client:
            assert json.loads(text)["id"] == "p3"
    assert client.close_code == 1000


async def say(client: ClientConnection, **message: str) -> None:
    await client.send(json.dumps(message))


async def heard(client: ClientConnection) -> dict[str, str]:
    message: dict[str, str] = json.loads(await client.recv())
    return message


class TestAllOfThem:
    def test_run_or_are_left_out_for_a_reason(self, samples: dict[str, Path]) -> None:
        assert RUN | LEFT_OUT.keys() == samples.keys()
        assert not RUN & LEFT_OUT.keys()

    @pytest.mark.parametrize("name", LEFT_OUT)
    def test_that_are_left_out_import_what_is_missing(
        self, name: str, samples: dict[str, Path]
    ) -> None:
        path = samples[name]
        files = [path] if path.is_file() else [*path.glob("*.py")]
        assert LEFT_OUT[name] in {module for file in files for module in imported(file)}

    def test_that_are_left_out_are_named_in_the_docs(self) -> None:
        page = PAGE.read_text()
        assert [name for name in LEFT_OUT if f"`{name}`" not in page] == []

    @pytest.mark.parametrize("name", sorted(RUN))
    def test_that_run_have_one_line_changed(self, name: str, samples: dict[str, Path]) -> None:
        theirs = (samples[name] / f"{name}.py").read_text()
        ours = with_our_import(theirs)
        pairs = zip(theirs.splitlines(), ours.splitlines(), strict=True)
        assert len([pair for pair in pairs if pair[0] != pair[1]]) == 1


def imported(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
