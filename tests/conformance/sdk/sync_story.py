"""Every call of the SDK's synchronous client, in the order a team would make them."""

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from azure.ai.projects import AIProjectClient, models as m
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from common import AGENT, ENDPOINT, TOKEN, Credential, PlainBearer, check, definition, package
from openai import NotFoundError
from websockets.sync.client import connect

SESSION = "demo-session-1"


def refused(kind: type[HttpResponseError], code: str, call: Callable[[], Any]) -> None:
    """Check that a call is refused with that exception and that code."""
    try:
        call()
    except kind as error:
        check(f"({code})" in str(error), error)
    else:
        raise AssertionError(f"{code} was expected")


def wait_for(
    client: AIProjectClient, version: str, status: str = "active"
) -> m.AgentVersionDetails:
    while (found := client.agents.get_version(AGENT, version)).status == "creating":
        time.sleep(0.2)
    check(found.status == status, found)
    return found


def versions(client: AIProjectClient) -> None:
    code = package("one")
    made = client.agents.create_version_from_code(
        AGENT, definition=definition(), code=code, description="the first", metadata={"team": "a"}
    )
    check((made.name, made.version, made.description) == (AGENT, "1", "the first"), made)
    check(made.metadata["team"] == "a", made)
    active = wait_for(client, "1")
    check(active.definition.environment_variables == {"GREETING": "hi"}, active)
    sha256 = hashlib.sha256(code.getvalue()).hexdigest()
    check(active.definition.code_configuration.content_hash == sha256, active)
    again = client.agents.create_version_from_code(
        AGENT, definition=definition(), code=package("one"), metadata={"team": "b"}
    )
    check(again.version == "1", again)
    second = client.agents.create_version_from_code(
        AGENT, definition=definition(), code=package("two")
    )
    check(second.version == "2", second)
    wait_for(client, "2")
    image = client.agents.create_version(
        "image-agent",
        definition=definition(
            code_configuration=None,
            container_configuration=m.ContainerConfiguration(image="registry.local/x:1"),
        ),
    )
    check(image.status == "failed", image)
    check("container runtime" in image["error"]["message"], image)
    check([v.version for v in client.agents.list_versions(AGENT)] == ["2", "1"], "versions")
    check([v.version for v in client.agents.list_versions(AGENT, limit=1)] == ["2", "1"], "pages")
    ascending = [v.version for v in client.agents.list_versions(AGENT, order="asc", limit=1)]
    check(ascending == ["1", "2"], ascending)
    downloaded = b"".join(client.agents.download_code(AGENT, agent_version="1"))
    check(downloaded == code.getvalue(), len(downloaded))
    refused(
        ResourceNotFoundError, "version_not_found", lambda: client.agents.get_version(AGENT, "9")
    )
    refused(
        HttpResponseError, "invalid_request",
        lambda: client.agents.create_version(AGENT, definition=definition(cpu="1", memory="64Mi")),
    )  # fmt: skip


def agents(client: AIProjectClient) -> None:
    names = [agent.name for agent in client.agents.list()]
    check(names == ["image-agent", AGENT], names)
    check([agent.name for agent in client.agents.list(limit=1)] == names, "one to a page")
    found = client.agents.get(AGENT)
    check((found.name, found.versions.latest.version) == (AGENT, "2"), found)
    refused(ResourceNotFoundError, "agent_not_found", lambda: client.agents.get("nobody"))
    changed = client.agents.update_details(
        AGENT,
        agent_endpoint=m.AgentEndpointConfig(
            version_selector=m.VersionSelector(
                version_selection_rules=[
                    m.FixedRatioVersionSelectionRule(agent_version="1", traffic_percentage=100)
                ]
            )
        ),
        agent_card=m.AgentCard(
            version="1", description="reads backwards",
            skills=[m.AgentCardSkill(id="read", name="Read", description="reads")],
        ),
    )  # fmt: skip
    rule = changed.agent_endpoint.version_selector.version_selection_rules[0]
    check((rule.agent_version, rule.traffic_percentage) == ("1", 100), changed)
    check(changed.agent_card.skills[0].id == "read", changed)
    client.agents.disable(AGENT)
    refused(
        ResourceExistsError, "agent_disabled",
        lambda: client.agents.create_session(
            AGENT, version_indicator=m.VersionRefIndicator(agent_version="1")
        ),
    )  # fmt: skip
    client.agents.enable(AGENT)
    check(client.agents.get(AGENT).state == "enabled", "state")


def sessions(client: AIProjectClient) -> None:
    pinned = m.VersionRefIndicator(agent_version="2")
    made = client.agents.create_session(AGENT, agent_session_id=SESSION, version_indicator=pinned)
    check((made.agent_session_id, made.version_indicator.agent_version) == (SESSION, "2"), made)
    check(made.expires_at > made.created_at, made)
    again = client.agents.create_session(AGENT, agent_session_id=SESSION, version_indicator=pinned)
    check(again.agent_session_id == SESSION, again)
    refused(
        ResourceExistsError, "conflict",
        lambda: client.agents.create_session(
            AGENT, agent_session_id=SESSION,
            version_indicator=m.VersionRefIndicator(agent_version="1"),
        ),
    )  # fmt: skip
    while (found := client.agents.get_session(AGENT, SESSION)).status == "creating":
        time.sleep(0.1)
    check(found.status == "active", found)
    second = client.agents.create_session(AGENT, version_indicator=pinned)
    listed = [s.agent_session_id for s in client.agents.list_sessions(AGENT, limit=1)]
    check(listed == [second.agent_session_id, SESSION], listed)
    client.agents.stop_session(AGENT, second.agent_session_id)
    stopped = client.agents.get_session(AGENT, second.agent_session_id)
    check(stopped.status == "idle", stopped)
    client.agents.stop_session(AGENT, second.agent_session_id)
    client.agents.delete_session(AGENT, second.agent_session_id)
    client.agents.delete_session(AGENT, second.agent_session_id)
    refused(
        ResourceNotFoundError, "session_not_found",
        lambda: client.agents.get_session(AGENT, second.agent_session_id),
    )  # fmt: skip


def files(client: AIProjectClient) -> None:
    text = "a file that goes up, is read, and comes back"
    done = client.agents.upload_session_file(AGENT, SESSION, content=text.encode(), path="in/a.txt")
    check((done.path, done.bytes_written) == ("in/a.txt", len(text)), done)
    url = f"{ENDPOINT}/agents/{AGENT}/endpoint/protocols/invocations_ws".replace("http", "ws", 1)
    with connect(
        f"{url}?api-version=v1&agent_session_id={SESSION}",
        additional_headers={"Authorization": f"Bearer {TOKEN}"},
        proxy=None,
    ) as websocket:
        websocket.send("in/a.txt")
        check(websocket.recv() == text, "the agent reads what was uploaded")
    entries = {
        entry.name: entry for entry in client.agents.list_session_files(AGENT, SESSION, path="in")
    }
    check(set(entries) == {"a.txt", "a.txt.out"}, entries)
    check((entries["a.txt"].size, entries["a.txt"].is_directory) == (len(text), False), entries)
    root = {
        entry.name: entry.is_directory for entry in client.agents.list_session_files(AGENT, SESSION)
    }
    check(root.get("in") is True, root)
    back = b"".join(client.agents.download_session_file(AGENT, SESSION, path="in/a.txt.out"))
    check(back.decode() == text[::-1], back)
    refused(
        ResourceExistsError, "conflict",
        lambda: client.agents.delete_session_file(AGENT, SESSION, path="in"),
    )  # fmt: skip
    client.agents.delete_session_file(AGENT, SESSION, path="in/a.txt.out")
    client.agents.delete_session_file(AGENT, SESSION, path="in", recursive=True)
    left = [entry.name for entry in client.agents.list_session_files(AGENT, SESSION)]
    check("in" not in left, left)


def logs(client: AIProjectClient) -> None:
    seen = b""
    for chunk in client.agents.get_session_log_stream(AGENT, "2", SESSION):
        seen += chunk
        if b'"read in/a.txt"' in seen:
            break
    first = json.loads(seen.split(b"data: ", 1)[1].split(b"\n")[0])
    check(first["session_state"] == "Running", first)


def responses(client: AIProjectClient) -> None:
    openai = client.get_openai_client(agent_name=AGENT)
    one = openai.responses.create(input="alone", extra_body={"agent_session_id": SESSION})
    check(one.output_text == "turn 1, before: nothing, now: alone", one.output_text)
    conversation = openai.conversations.create(metadata={"topic": "test"})
    first = openai.responses.create(input="one", conversation=conversation.id)
    check(first.output_text == "turn 1, before: nothing, now: one", first.output_text)
    second = openai.responses.create(input="two", conversation=conversation.id)
    check(second.output_text == "turn 2, before: one, now: two", second.output_text)
    streamed = ""
    for event in openai.responses.create(input="three", conversation=conversation.id, stream=True):
        if event.type == "response.output_text.delta":
            streamed += event.delta
    check(streamed == "turn 3, before: one, two, now: three", streamed)
    items = list(openai.conversations.items.list(conversation.id, order="asc", limit=2))
    texts = [item.content[0].text for item in items]
    check(texts[::2] == ["one", "two", "three"], texts)
    check(texts[1] == first.output_text, texts)
    follow = openai.responses.create(input="after", previous_response_id=one.id)
    check(follow.output_text.startswith("turn 2"), follow.output_text)
    check(openai.responses.retrieve(one.id).id == one.id, "retrieve")
    found = openai.conversations.retrieve(conversation.id)
    check(found.metadata == {"topic": "test"}, found)
    check(openai.conversations.delete(conversation.id).deleted, "deleted")
    try:
        openai.responses.create(input="gone", conversation=conversation.id)
    except NotFoundError as error:
        check(error.code == "conversation_not_found", error.body)
    else:
        raise AssertionError("a deleted conversation goes on")


def deletions(client: AIProjectClient) -> None:
    refused(ResourceExistsError, "conflict", lambda: client.agents.delete_version(AGENT, "2"))
    check(client.agents.delete_version(AGENT, "1", force=True).deleted, "version 1")
    check([v.version for v in client.agents.list_versions(AGENT)] == ["2"], "versions")
    refused(ResourceExistsError, "conflict", lambda: client.agents.delete(AGENT))
    client.agents.delete_session(AGENT, SESSION)
    check(client.agents.delete(AGENT, force=True).deleted, "agent")
    check(client.agents.delete("image-agent").deleted, "agent")
    check(list(client.agents.list()) == [], "nothing is left")


def main() -> None:
    with AIProjectClient(
        endpoint=ENDPOINT, credential=Credential(), authentication_policy=PlainBearer(),
        retry_total=0,
    ) as client:  # fmt: skip
        for chapter in (versions, agents, sessions, files, logs, responses, deletions):
            chapter(client)
            print(chapter.__name__, "ok", flush=True)


if __name__ == "__main__":
    main()
