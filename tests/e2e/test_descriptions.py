"""A version's AsyncAPI document is had by the version, and by its endpoint."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.platform import Platform

MAIN = """
from trunkline.agentserver import InvocationAgentServerHost

app = InvocationAgentServerHost({arguments})


@app.ws_handler
async def talk(websocket):
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app.run()
"""
MANIFEST = """kind: hosted
name: described
protocols:
  - protocol: invocations_ws
    version: 1.0.0
environment_variables:
  - {{name: NUMBER, value: "{number}"}}
"""
DOCUMENT: dict[str, Any] = {"asyncapi": "3.0.0", "info": {"title": "Described", "version": "1"}}


@pytest.fixture(scope="module")
def described(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Deploy three versions: with documents, with what are none, and with nothing."""
    folder = tmp_path_factory.mktemp("described")
    yaml = "asyncapi: 3.0.0\ninfo: {title: Described, version: '1'}\n"
    for number, arguments in enumerate(
        (
            f"asyncapi_spec_json={DOCUMENT!r}, asyncapi_spec_yaml={yaml!r}",
            "asyncapi_spec_json={'asyncapi': '3.0.0'}, asyncapi_spec_yaml='a: ['",
            "",
        )
    ):
        (folder / "main.py").write_text(MAIN.format(arguments=arguments))
        (folder / "agent.yaml").write_text(MANIFEST.format(number=number))
        platform.deploy(folder)
    return "described"


@pytest.fixture
def http(platform: Platform, token: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(
        base_url=f"{platform.endpoint}/agents/",
        headers={"authorization": f"Bearer {token}"},
        params={"api-version": "v1"},
        timeout=60,
        trust_env=False,
    ) as client:
        yield client


def docs(version: str, form: str = "json") -> str:
    return f"described/versions/{version}/invocations/docs/asyncapi.{form}"


def test_each_version_has_its_own(described: str, http: httpx2.Client) -> None:
    answer = http.get(docs("1"))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == DOCUMENT
    answer = http.get(docs("1", "yaml"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/yaml")
    assert "title: Described" in answer.text
    for form, words in (("json", "info must be an object"), ("yaml", "it isn't YAML")):
        answer = http.get(docs("2", form))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
        assert words in answer.json()["error"]["message"]
    answer = http.get(docs("3"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert "the version publishes no asyncapi.json" in answer.json()["error"]["message"]
    answer = http.get(docs("4"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "version_not_found")


def test_nothing_is_left_of_the_sessions_that_were_asked(
    described: str, http: httpx2.Client
) -> None:
    assert http.get(docs("1")).status_code == 200
    # They go in the background, one after the other.
    while http.get("described/endpoint/sessions").json()["data"]:
        pass
    body = {
        "agent_session_id": "mine",
        "version_indicator": {"type": "version_ref", "agent_version": "1"},
    }
    assert http.post("described/endpoint/sessions", json=body).status_code == 201
    mine = {"agent_session_id": "mine"}
    assert http.get(docs("1"), params=mine).json() == DOCUMENT
    answer = http.get(docs("2"), params=mine)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    (kept,) = http.get("described/endpoint/sessions").json()["data"]
    assert kept["agent_session_id"] == "mine"
