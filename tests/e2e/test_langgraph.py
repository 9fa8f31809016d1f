"""The LangGraph sample in its sandbox: the same conversation over three protocols."""

import json
import os
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.environments import bin_with
from tests.support.platform import Platform

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHAPTERS = ["conversation", "chain", "history", "refusals"]
#: One for all of it: each start of the agent imports LangGraph anew.
SESSION = "desk-1"
QUERY = {"api-version": "v1", "agent_session_id": SESSION}
MOBY_DICK = "Moby-Dick by Herman Melville"


@pytest.fixture(scope="module")
def http(platform: Platform, token: str) -> Iterator[httpx2.Client]:
    name, _, endpoint = platform.deploy(ROOT / "samples" / "langgraph")
    assert name == "langgraph", endpoint
    url = f"{platform.endpoint}/agents/{name}/endpoint/protocols/"
    bearer = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=url, headers=bearer, trust_env=False, timeout=60) as client:
        yield client


def post(http: httpx2.Client, body: Any, **headers: str) -> httpx2.Response:
    return http.post("invocations", params=QUERY, json=body, headers=headers)


def ask(http: httpx2.Client, words: str) -> dict[str, Any]:
    answer = post(http, {"message": words})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_a_conversation_over_http_and_the_socket(
    platform: Platform, http: httpx2.Client, token: str
) -> None:
    found = ask(http, "Have you anything about whales?")
    assert found["answer"] == f"I have {MOBY_DICK}. Would you like to borrow it?"
    assert found["steps"] == [
        {"type": "step", "tool": "find_books", "arguments": {"about": "whales"}}
    ]
    asked = ask(http, "I'd like to borrow it.")
    assert (asked["answer"], asked["is_question"]) == (f"Shall I lend you {MOBY_DICK}?", True)

    # The process may go while the graph waits for an answer.
    stopped = platform.run("sessions", "stop", "langgraph", SESSION)
    assert stopped.code == 0, stopped.stderr
    lent = ask(http, "Yes, please.")
    assert (lent["answer"], lent["is_question"]) == ("Moby-Dick is yours. Enjoy it.", False)

    async with platform.connect("langgraph", SESSION, token=token) as websocket:
        await websocket.send("What have I borrowed?")
        events = [json.loads(await websocket.recv())]
        while events[-1]["type"] != "final":
            events.append(json.loads(await websocket.recv()))
        assert events[0] == {"type": "step", "tool": "loans", "arguments": {}}
        partials = [event["text"] for event in events[1:-1]]
        assert partials[:2] == ["You ", "You have "]
        assert partials[-1] == events[-1]["text"] == f"You have {MOBY_DICK}."
        await websocket.send(" ")
        assert json.loads(await websocket.recv())["code"] == "invalid_value"
        await websocket.send(b"sound")
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1003


def test_an_answer_comes_word_by_word(http: httpx2.Client) -> None:
    body = {"message": "Something by Jane Austen?", "stream": True}
    with http.stream("POST", "invocations", params=QUERY, json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = list(answer.iter_lines())
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data")]
    assert [line for line in lines if line.startswith("event")] == [
        f"event: {event['type']}" for event in events
    ]
    assert events[0]["tool"] == "find_books"
    texts = [event["text"] for event in events[1:-1]]
    assert all(after.startswith(before) for before, after in pairwise(texts))
    assert len(set(texts)) == len(texts) == len(texts[-1].split()) > 5
    assert events[-1] == {
        "type": "final", "id": "1", "text": texts[-1], "is_question": False,
    }  # fmt: skip
    assert post(http, {"message": "Hello."}, Accept="text/event-stream").text.endswith("\n\n")


@pytest.mark.parametrize("body", [[], {}, {"message": ""}, {"message": 1}, {"message": "x" * 8001}])
def test_what_is_no_message_is_refused(http: httpx2.Client, body: Any) -> None:
    answer = post(http, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_plain_text_is_a_message(platform: Platform, http: httpx2.Client) -> None:
    done = platform.run("invoke", "langgraph", "Hello.", "--session-id", SESSION)
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["answer"].startswith("Hello. I lend books.")


def test_openais_client_as_microsofts_sdk_gives_it(
    platform: Platform, http: httpx2.Client, token: str
) -> None:
    done = subprocess.run(
        [bin_with("sdk") / "python", str(HERE / "langgraph_client.py")],
        capture_output=True, text=True, timeout=120, check=False,
        env={
            **{name: value for name, value in os.environ.items() if "TRUNKLINE" not in name},
            "PYTHONPATH": str(ROOT / "tests" / "conformance" / "sdk"),
            "SDK_ENDPOINT": platform.endpoint,
            "SDK_TOKEN": token,
            "SDK_SESSION": SESSION,
        },
    )  # fmt: skip
    log = platform.run("monitor", "langgraph", "--tail", "40").stdout
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}\n{log}"
    assert done.stdout.splitlines() == [f"{chapter} ok" for chapter in CHAPTERS]
