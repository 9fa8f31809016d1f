"""Control operations, against scripted answers."""

import hashlib
import io
import json
from typing import Any

import httpx2
import pytest

from trunkline.client import (
    BadAnswerError,
    BuildFailedError,
    InsecureEndpointError,
    MissingTokenError,
    Project,
    RefusedError,
    UnreachableError,
    Version,
)

BASE = "https://host/api/projects/demo"


class Script:
    """Answers requests in order and keeps them."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def project(script: Script, endpoint: str = BASE, **options: Any) -> Project:
    options.setdefault("token", "secret-token")
    return Project(endpoint, transport=httpx2.MockTransport(script), **options)


def answer(document: Any, status: int = 200) -> httpx2.Response:
    return httpx2.Response(status, json=document)


def version(status: str, number: str = "1", **more: Any) -> dict[str, Any]:
    return {"object": "agent.version", "name": "echo", "version": number, "status": status, **more}


async def test_sends_token_and_api_version() -> None:
    script = Script(answer({"name": "echo", "versions": {"latest": version("active")}}))
    async with project(script) as demo:
        agent = await demo.get_agent("echo")
    (request,) = script.requests
    assert str(request.url) == f"{BASE}/agents/echo?api-version=v1"
    assert request.headers["authorization"] == "Bearer secret-token"
    assert agent.latest is not None
    assert agent.latest.state == "active"


async def test_pages_until_there_is_no_more() -> None:
    def page(names: list[str], **more: Any) -> httpx2.Response:
        return answer({"data": [{"name": name} for name in names], **more})

    script = Script(
        page(["a", "b"], has_more=True, last_id="b"),
        page(["c"], has_more=True, last_id="c"),
        page([], has_more=False),
    )
    async with project(script) as demo:
        assert [agent.name async for agent in demo.list_agents()] == ["a", "b", "c"]
    assert [request.url.params.get("after") for request in script.requests] == [None, "b", "c"]


async def test_a_page_that_repeats_itself_is_the_last() -> None:
    page = {"data": [{"name": "a"}], "has_more": True, "last_id": "a"}
    script = Script(answer(page), answer(page))
    async with project(script) as demo:
        assert [agent.name async for agent in demo.list_agents()] == ["a", "a"]


async def test_uploads_a_zip() -> None:
    archive = io.BytesIO(b"PK\x03\x04 code")
    script = Script(answer(version("creating")))
    async with project(script) as demo:
        made = await demo.create_version("echo", {"definition": {"kind": "hosted"}}, archive)
    (request,) = script.requests
    assert (request.method, request.url.path) == (
        "POST",
        "/api/projects/demo/agents/echo/versions",
    )
    assert request.headers["x-ms-code-zip-sha256"] == hashlib.sha256(b"PK\x03\x04 code").hexdigest()
    body = request.content
    assert b'name="metadata"' in body
    assert b'{"definition": {"kind": "hosted"}}' in body
    assert b'name="code"; filename="agent.zip"' in body
    assert b"PK\x03\x04 code" in body
    assert made.is_building


async def test_an_image_needs_no_zip() -> None:
    script = Script(answer(version("creating")))
    async with project(script) as demo:
        await demo.create_version("echo", {"definition": {"kind": "hosted"}})
    assert json.loads(script.requests[0].content) == {"definition": {"kind": "hosted"}}


async def test_waits_until_active() -> None:
    waits: list[float] = []
    seen: list[str] = []

    async def sleep(wait_s: float) -> None:
        waits.append(wait_s)

    script = Script(answer(version("creating")), answer(version("Active")))
    async with project(script) as demo:
        done = await demo.wait_until_active(
            Version.read(version("creating")),
            timeout_s=60,
            on_poll=lambda v: seen.append(v.state),
            sleep=sleep,
        )
    assert done.state == "active"
    assert seen == ["creating", "creating"]
    assert waits == sorted(waits)


async def test_a_failed_build_says_why() -> None:
    failed = version("failed", error={"code": "CodeError", "message": "no module named numpie"})
    async with project(Script()) as demo:
        with pytest.raises(
            BuildFailedError, match="couldn't be built: no module named numpie"
        ) as raised:
            await demo.wait_until_active(Version.read(failed), timeout_s=60)
    assert raised.value.version.version == "1"


async def test_a_build_may_take_too_long() -> None:
    async def sleep(_wait_s: float) -> None: ...

    script = Script(*(answer(version("creating")) for _ in range(9)))
    async with project(script) as demo:
        with pytest.raises(BuildFailedError, match="isn't active after 1 s"):
            await demo.wait_until_active(
                Version.read(version("creating")), timeout_s=1, sleep=sleep
            )


async def test_a_refusal_carries_the_envelope() -> None:
    body = {"error": {"code": "agent_not_found", "message": "no agent 'echo'"}}
    refusal = httpx2.Response(
        404, json=body, headers={"x-request-id": "r1", "x-agent-session-id": "s1"}
    )
    async with project(Script(refusal)) as demo:
        with pytest.raises(RefusedError, match="no agent 'echo'") as raised:
            await demo.get_agent("echo")
    error = raised.value
    assert (error.status, error.code, error.agent) == (404, "agent_not_found", "echo")
    assert (error.request_id, error.session_id) == ("r1", "s1")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b"<h1>Bad Gateway</h1>",
            "the answer was 502 with a page: it isn't a trunkline that answers",
        ),
        (b"", "the answer was 502"),
        (b'{"error":"text"}', 'the answer was 502: {"error":"text"}'),
        (b"[1]", "the answer was 502: [1]"),
    ],
)
async def test_a_refusal_without_an_envelope(body: bytes, message: str) -> None:
    async with project(Script(httpx2.Response(502, content=body))) as demo:
        with pytest.raises(RefusedError) as raised:
            await demo.get_agent("echo")
    assert str(raised.value) == message
    assert raised.value.code == "http_502"


async def test_a_redirect_isnt_followed_with_the_token() -> None:
    script = Script(httpx2.Response(307, headers={"location": "https://elsewhere/"}))
    async with project(script) as demo:
        with pytest.raises(RefusedError, match="answer was 307"):
            await demo.get_agent("echo")
    assert len(script.requests) == 1


async def test_nothing_answers() -> None:
    script = Script(httpx2.ConnectError("All connection attempts failed"))
    async with project(script) as demo:
        with pytest.raises(UnreachableError, match=r"^nothing answers at https://host$") as raised:
            await demo.get_agent("echo")
    assert not raised.value.is_connected


async def test_a_broken_connection() -> None:
    async with project(Script(httpx2.ReadError("reset"))) as demo:
        with pytest.raises(UnreachableError, match=r"broke \(reset\)") as raised:
            await demo.get_agent("echo")
    assert raised.value.is_connected


@pytest.mark.parametrize("document", [{"no": "name"}, [1]])
async def test_an_answer_it_cant_read(document: Any) -> None:
    async with project(Script(answer(document))) as demo:
        with pytest.raises(BadAnswerError):
            await demo.get_agent("echo")


async def test_plain_http_to_another_machine_needs_a_word() -> None:
    script = Script(answer({"name": "echo"}))
    remote = "http://10.0.0.1/api/projects/demo"
    async with project(script, remote) as demo:
        with pytest.raises(InsecureEndpointError, match="isn't sent"):
            await demo.get_agent("echo")
        with pytest.raises(InsecureEndpointError):
            await demo.connect("echo")
    assert script.requests == []
    async with project(script, remote, allow_insecure_http=True) as demo:
        await demo.get_agent("echo")
    assert len(script.requests) == 1


async def test_tokens_are_asked_for_each_time() -> None:
    tokens = iter(["one", "two"])

    async def source() -> str:
        return next(tokens)

    script = Script(answer({"name": "echo"}), answer({"name": "echo"}))
    async with project(script, token=source) as demo:
        await demo.get_agent("echo")
        await demo.get_agent("echo")
    assert [r.headers["authorization"] for r in script.requests] == ["Bearer one", "Bearer two"]


async def test_without_a_token_nothing_is_sent() -> None:
    script = Script()
    async with project(script, token=None) as demo:
        with pytest.raises(MissingTokenError, match="TRUNKLINE_TOKEN"):
            await demo.get_agent("echo")


async def test_invoke_streams() -> None:
    head = {"x-agent-session-id": "s1", "x-agent-invocation-id": "i1"}
    script = Script(httpx2.Response(200, content=b"hello", headers=head))
    async with project(script) as demo:
        async with demo.invoke("echo", b"{}", content_type="application/json") as call:
            assert (call.session_id, call.invocation_id) == ("s1", "i1")
            assert b"".join([chunk async for chunk in call]) == b"hello"
    (request,) = script.requests
    assert request.url.path.endswith("/endpoint/protocols/invocations")
    assert request.headers["content-type"] == "application/json"


async def test_unknown_keys_are_kept() -> None:
    document = version("active", notes=["ran on 3.12"], later={"a": 1})
    script = Script(answer(document), httpx2.Response(200, text="built\n"))
    async with project(script) as demo:
        found = await demo.get_version("echo", "1")
        assert await demo.get_build_log("echo", "1") == "built\n"
    assert found.as_dict() == json.loads(json.dumps(document))
    assert found.notes == ["ran on 3.12"]
