"""Every call of the SDK's asynchronous client, in the order a team would make them."""
# ruff: noqa: ASYNC110 - the SDK has nothing to wait for

import asyncio
import json
from collections.abc import AsyncIterable, Awaitable
from typing import Any, TypeVar

from azure.ai.projects import models as m
from azure.ai.projects.aio import AIProjectClient
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from common import (
    AGENT,
    ENDPOINT,
    TOKEN,
    AsyncCredential,
    PlainBearer,
    check,
    definition,
    package,
)
from websockets.asyncio.client import connect

SESSION = "demo-session-2"
T = TypeVar("T")


async def every(found: AsyncIterable[T]) -> list[T]:
    return [item async for item in found]


async def refused(kind: type[HttpResponseError], code: str, call: Awaitable[Any]) -> None:
    """Check that a call is refused with that exception and that code."""
    try:
        await call
    except kind as error:
        check(f"({code})" in str(error), error)
    else:
        raise AssertionError(f"{code} was expected")


async def versions(client: AIProjectClient) -> None:
    for number, salt in (("1", "one"), ("2", "two")):
        made = await client.agents.create_version_from_code(
            AGENT, definition=definition(), code=package(salt)
        )
        check(made.version == number, made)
        while (found := await client.agents.get_version(AGENT, number)).status == "creating":
            await asyncio.sleep(0.2)
        check(found.status == "active", found)
    image = await client.agents.create_version(
        "image-agent",
        definition=definition(
            code_configuration=None,
            container_configuration=m.ContainerConfiguration(image="registry.local/x:1"),
        ),
    )
    check(image["error"]["code"] == "ImageError", image)
    listed = [v.version for v in await every(client.agents.list_versions(AGENT, limit=1))]
    check(listed == ["2", "1"], listed)
    code = b"".join(await every(await client.agents.download_code(AGENT, agent_version="2")))
    check(code == package("two").getvalue(), len(code))
    await refused(ResourceNotFoundError, "version_not_found", client.agents.get_version(AGENT, "9"))


async def agents(client: AIProjectClient) -> None:
    names = [agent.name for agent in await every(client.agents.list(limit=1))]
    check(names == ["image-agent", AGENT], names)
    found = await client.agents.get(AGENT)
    check(found.versions.latest.version == "2", found)
    await refused(ResourceNotFoundError, "agent_not_found", client.agents.get("nobody"))
    rules = [
        m.FixedRatioVersionSelectionRule(agent_version="@latest", traffic_percentage=40),
        m.FixedRatioVersionSelectionRule(agent_version="1", traffic_percentage=60),
    ]
    endpoint = m.AgentEndpointConfig(
        version_selector=m.VersionSelector(version_selection_rules=rules)
    )
    changed = await client.agents.update_details(AGENT, agent_endpoint=endpoint)
    seen = changed.agent_endpoint.version_selector.version_selection_rules
    check([rule.traffic_percentage for rule in seen] == [40, 60], changed)
    rules[0]["traffic_percentage"] = 50
    await refused(
        HttpResponseError, "invalid_request",
        client.agents.update_details(AGENT, agent_endpoint=endpoint),
    )  # fmt: skip
    await client.agents.disable(AGENT)
    check((await client.agents.get(AGENT)).state == "disabled", "state")
    await client.agents.enable(AGENT)


async def sessions(client: AIProjectClient) -> None:
    pinned = m.VersionRefIndicator(agent_version="2")
    made = await client.agents.create_session(
        AGENT, agent_session_id=SESSION, version_indicator=pinned
    )
    check(made.agent_session_id == SESSION, made)
    while (found := await client.agents.get_session(AGENT, SESSION)).status == "creating":
        await asyncio.sleep(0.1)
    check(found.status == "active", found)
    second = await client.agents.create_session(AGENT, version_indicator=pinned)
    listed = [s.agent_session_id for s in await every(client.agents.list_sessions(AGENT))]
    check(listed == [second.agent_session_id, SESSION], listed)
    await client.agents.stop_session(AGENT, second.agent_session_id)
    check(
        (await client.agents.get_session(AGENT, second.agent_session_id)).status == "idle", "idle"
    )
    await client.agents.delete_session(AGENT, second.agent_session_id)
    await refused(
        ResourceNotFoundError, "session_not_found",
        client.agents.get_session(AGENT, second.agent_session_id),
    )  # fmt: skip


async def files(client: AIProjectClient) -> None:
    text = "up, read, and back"
    done = await client.agents.upload_session_file(
        AGENT, SESSION, content=text.encode(), path="in/a.txt"
    )
    check(done.bytes_written == len(text), done)
    url = f"{ENDPOINT}/agents/{AGENT}/endpoint/protocols/invocations_ws".replace("http", "ws", 1)
    async with connect(
        f"{url}?api-version=v1&agent_session_id={SESSION}",
        additional_headers={"Authorization": f"Bearer {TOKEN}"},
        proxy=None,
    ) as websocket:
        await websocket.send("in/a.txt")
        check(await websocket.recv() == text, "the agent reads what was uploaded")
    entries = await every(client.agents.list_session_files(AGENT, SESSION, path="in"))
    check({entry.name for entry in entries} == {"a.txt", "a.txt.out"}, entries)
    parts = await every(
        await client.agents.download_session_file(AGENT, SESSION, path="in/a.txt.out")
    )
    check(b"".join(parts).decode() == text[::-1], parts)
    await client.agents.delete_session_file(AGENT, SESSION, path="in", recursive=True)
    left = await every(client.agents.list_session_files(AGENT, SESSION))
    check("in" not in [entry.name for entry in left], left)


async def logs(client: AIProjectClient) -> None:
    seen = b""
    async for chunk in await client.agents.get_session_log_stream(AGENT, "2", SESSION):
        seen += chunk
        if b'"read in/a.txt"' in seen:
            break
    first = json.loads(seen.split(b"data: ", 1)[1].split(b"\n")[0])
    check(first["session_state"] == "Running", first)


async def responses(client: AIProjectClient) -> None:
    async with client.get_openai_client(agent_name=AGENT) as openai:
        conversation = await openai.conversations.create()
        first = await openai.responses.create(input="one", conversation=conversation.id)
        check(first.output_text == "turn 1, before: nothing, now: one", first.output_text)
        stream = await openai.responses.create(
            input="two", conversation=conversation.id, stream=True
        )
        last = [event async for event in stream][-1]
        check(last.type == "response.completed", last)
        text = last.response.output_text
        check(text == "turn 2, before: one, now: two", text)
        items = await every(openai.conversations.items.list(conversation.id))
        check(len(items) == 4, items)
        added = await openai.conversations.items.create(
            conversation.id, items=[{"role": "user", "content": "aside", "type": "message"}]
        )
        check((await openai.conversations.items.retrieve(
            added.data[0].id, conversation_id=conversation.id)).id == added.data[0].id, added
        )  # fmt: skip
        await openai.conversations.items.delete(added.data[0].id, conversation_id=conversation.id)
        updated = await openai.conversations.update(conversation.id, metadata={"a": "b"})
        check(updated.metadata == {"a": "b"}, updated)


async def deletions(client: AIProjectClient) -> None:
    await refused(ResourceExistsError, "conflict", client.agents.delete_version(AGENT, "2"))
    check((await client.agents.delete_version(AGENT, "1", force=True)).deleted, "1")
    await refused(ResourceExistsError, "conflict", client.agents.delete(AGENT))
    check((await client.agents.delete(AGENT, force=True)).deleted, "agent")
    check((await client.agents.delete("image-agent")).deleted, "agent")
    check(await every(client.agents.list()) == [], "nothing is left")


async def main() -> None:
    async with AIProjectClient(
        endpoint=ENDPOINT, credential=AsyncCredential(), authentication_policy=PlainBearer(),
        retry_total=0,
    ) as client:  # fmt: skip
        for chapter in (versions, agents, sessions, files, logs, responses, deletions):
            await chapter(client)
            print(chapter.__name__, "ok", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
