"""A small stand-in for a platform, and the command run against it in this process.

The stand-in does what a real platform does seldom or slowly: it refuses, fails builds, closes
with odd codes and drops log streams. What an agent does is in ``test_platform.py``.
"""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from trunkline.cli import talking
from trunkline.cli.main import main

_AGENT = "/api/projects/default/agents/{agent}"


def refusal(status: int, code: str, message: str, **header: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers=header)


@dataclass
class FakePlatform:
    """What it was asked, and how it answers."""

    url: str = ""
    tokens: list[str] = field(default_factory=list)
    uploads: list[tuple[dict[str, Any], bytes]] = field(default_factory=list)
    log_requests: list[Request] = field(default_factory=list)
    log_answers: list[bytes] = field(default_factory=list)
    ends: list[dict[str, Any]] = field(default_factory=list)
    polls_until_built: int = 2
    build_fails: bool = False
    deleted_sessions: list[str] = field(default_factory=list)
    changes: list[tuple[str, str, Any]] = field(default_factory=list)
    agent_endpoint: dict[str, Any] | None = None
    code: bytes = b""
    code_sha256: str = ""
    invocation_answers: list[Response] = field(default_factory=list)
    pages: dict[str, Response] = field(default_factory=dict)
    users: list[str | None] = field(default_factory=list)

    def reset(self) -> None:
        """Forget everything; one server is enough for all tests."""
        self.__init__(url=self.url)  # type: ignore[misc]

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/projects/default/agents", self.list_agents),
                Route(_AGENT, self.get_agent),
                Route(_AGENT, self.change_agent, methods=["PATCH", "DELETE"]),
                Route(f"{_AGENT}/versions/{{version}}", self.change_agent, methods=["DELETE"]),
                Route(f"{_AGENT}/endpoint/sessions", self.create_session, methods=["POST"]),
                Route(
                    f"{_AGENT}/endpoint/sessions/{{session}}:stop",
                    self.stop_session,
                    methods=["POST"],
                ),
                Route(
                    f"{_AGENT}/endpoint/protocols/openai/responses", self.respond, methods=["POST"]
                ),
                Route(
                    f"{_AGENT}/endpoint/protocols/openai/conversations",
                    self.create_conversation,
                    methods=["POST"],
                ),
                Route("/api/projects/default/pages/{name}", self.get_page),
                Route(f"{_AGENT}/code:download", self.download_code),
                Route(f"{_AGENT}/versions", self.create_version, methods=["POST"]),
                Route(f"{_AGENT}/versions/{{version}}", self.get_version),
                Route(f"{_AGENT}/versions/{{version}}/buildlog", self.get_build_log),
                Route(f"{_AGENT}/endpoint/sessions", self.list_sessions),
                Route(f"{_AGENT}/endpoint/sessions/{{session}}", self.get_session),
                Route(f"{_AGENT}/endpoint/sessions/{{session}}/connections", self.list_ends),
                Route(
                    f"{_AGENT}/endpoint/sessions/{{session}}",
                    self.delete_session,
                    methods=["DELETE"],
                ),
                Route(f"{_AGENT}/sessions/{{session}}:logstream", self.stream_log),
                Route(f"{_AGENT}/endpoint/protocols/invocations", self.invoke, methods=["POST"]),
                Route(f"{_AGENT}/endpoint/protocols/invocations/{{id}}", self.get_invocation),
                WebSocketRoute(f"{_AGENT}/endpoint/protocols/invocations_ws", self.talk),
            ]
        )

    def version(self, agent: str, status: str) -> dict[str, Any]:
        protocols = [{"protocol": "invocations_ws", "version": "1.0.0"}]
        body: dict[str, Any] = {
            "object": "agent.version",
            "name": agent,
            "version": "3",
            "created_at": 1767225600,
            "status": status,
            "definition": {"kind": "hosted", "protocol_versions": protocols},
        }
        if status == "failed":
            body["error"] = {"code": "CodeError", "message": "numpie isn't a package"}
        if status == "active":
            body["notes"] = ["Python 3.12 was taken for python_3_13"]
        return body

    async def list_agents(self, request: Request) -> Response:
        self.tokens.append(request.headers.get("authorization", ""))
        agent = {"name": "echo", "versions": {"latest": self.version("echo", "active")}}
        return JSONResponse({"data": [{**agent, "running_sessions": 2}], "has_more": False})

    async def get_agent(self, request: Request) -> Response:
        name = request.path_params["agent"]
        if name == "nobody":
            return refusal(404, "agent_not_found", "no agent 'nobody'")
        return JSONResponse(
            {
                "name": name,
                "versions": {"latest": self.version(name, "active")},
                "agent_endpoint": self.agent_endpoint,
            }
        )

    async def create_version(self, request: Request) -> Response:
        async with request.form() as form:
            metadata, code = form["metadata"], form["code"]
            text = metadata if isinstance(metadata, str) else (await metadata.read()).decode()
            assert not isinstance(code, str)
            self.uploads.append((json.loads(text), await code.read()))
        return JSONResponse(self.version(request.path_params["agent"], "creating"))

    async def get_version(self, request: Request) -> Response:
        self.polls_until_built -= 1
        status = "creating"
        if self.polls_until_built <= 0:
            status = "failed" if self.build_fails else "active"
        return JSONResponse(self.version(request.path_params["agent"], status))

    async def get_build_log(self, _request: Request) -> Response:
        return PlainTextResponse("".join(f"build line {n}\n" for n in range(60)))

    async def list_sessions(self, request: Request) -> Response:
        self.users.append(request.headers.get("x-ms-user-identity"))
        if request.path_params["agent"] == "idle":
            return JSONResponse({"data": []})
        return JSONResponse({"data": [session("old", 1000), session("new", 2000)]})

    async def get_session(self, request: Request) -> Response:
        return JSONResponse(session(request.path_params["session"], 1000))

    async def list_ends(self, request: Request) -> Response:
        ends = self.ends[: int(request.query_params["limit"])]
        return JSONResponse({"object": "list", "data": ends})

    async def change_agent(self, request: Request) -> Response:
        path = request.url.path.partition("/agents/")[2]
        if request.url.query != "api-version=v1":
            path += f"?{request.url.query}"
        body = await request.body()
        self.changes.append((request.method, path, json.loads(body) if body else None))
        if request.path_params["agent"] == "busy" and "force=true" not in request.url.query:
            return refusal(409, "conflict", "the agent has 2 sessions; add force=true")
        name = request.path_params["agent"]
        return JSONResponse({"name": name, "object": "agent.deleted", "deleted": True})

    async def create_session(self, request: Request) -> Response:
        asked = await request.json()
        made = session(asked.get("agent_session_id", "made-up"), 1000)
        made["version_indicator"] = asked.get("version_indicator", made["version_indicator"])
        return JSONResponse(made, 201)

    async def stop_session(self, request: Request) -> Response:
        if request.path_params["session"] == "stopped":
            return refusal(409, "session_already_stopped", "it is stopped")
        return Response(status_code=204)

    async def respond(self, request: Request) -> Response:
        asked = await request.json()
        if "conversation" in asked:
            asked["input"] += f" in {asked['conversation']['id']}"
        if not asked["stream"]:
            content = [{"type": "output_text", "text": "once upon"}]
            return JSONResponse({"object": "response", "output": [{"content": content}]})
        events = [
            {"type": "response.created"},
            {"type": "response.output_text.delta", "delta": "once "},
            {"type": "response.output_text.delta", "delta": asked["input"]},
            {"type": "response.completed"},
        ]
        if asked["input"] == "fail":
            events[-1] = {"type": "response.failed", "response": {"error": {"message": "no idea"}}}
        text = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
        return Response(text, media_type="text/event-stream")

    async def create_conversation(self, _request: Request) -> Response:
        return JSONResponse({"id": "conv_1", "object": "conversation"})

    async def get_page(self, request: Request) -> Response:
        return self.pages[request.path_params["name"]]

    async def download_code(self, request: Request) -> Response:
        version = request.query_params.get("agent_version", "3")
        head = {"x-ms-code-zip-sha256": self.code_sha256, "x-ms-agent-version": version}
        return Response(self.code, media_type="application/zip", headers=head)

    async def get_invocation(self, request: Request) -> Response:
        assert request.path_params["id"] == "i-1"
        assert request.query_params["agent_session_id"] == "s-invoke"
        return self.invocation_answers.pop(0)

    async def delete_session(self, request: Request) -> Response:
        self.deleted_sessions.append(request.path_params["session"])
        return Response(status_code=204)

    async def stream_log(self, request: Request) -> Response:
        self.log_requests.append(request)
        if not self.log_answers:
            return refusal(404, "session_not_found", "the session is gone")
        answer = self.log_answers.pop(0)

        async def chunks() -> AsyncIterator[bytes]:
            for byte in range(0, len(answer), 7):
                yield answer[byte : byte + 7]

        return StreamingResponse(chunks(), media_type="text/event-stream")

    async def invoke(self, request: Request) -> Response:
        if request.path_params["agent"] == "broken":
            return refusal(
                424, "session_not_ready", "it isn't up", **{"x-agent-session-id": "s-broken"}
            )
        self.users.append(request.headers.get("x-ms-user-identity"))
        body = await request.body()
        if body == b"long":
            head = {"x-agent-session-id": "s-invoke", "x-agent-invocation-id": "i-1"}
            return JSONResponse(
                {"invocation_id": "i-1", "status": "running"}, 202, {**head, "retry-after": "0"}
            )
        if body == b"stream":
            events = b'data: {"n": 1}\n\nevent: other\ndata: two\n\ndata: [DONE]\n\n'
            return Response(events, media_type="text/event-stream")
        seen = {
            "type": request.headers["content-type"],
            "body": body.decode(),
            "session": request.query_params.get("agent_session_id"),
        }
        head = {"x-agent-session-id": "s-invoke", "x-agent-invocation-id": "i-1"}
        return JSONResponse(seen, headers=head)

    async def talk(self, socket: WebSocket) -> None:
        agent = socket.path_params["agent"]
        if agent == "nobody":
            await socket.send_denial_response(refusal(404, "agent_not_found", "no agent 'nobody'"))
            return
        if agent == "broken":
            await socket.send_denial_response(
                refusal(424, "session_not_ready", "no", **{"x-agent-session-id": "s-broken"})
            )
            return
        sid = socket.query_params.get("agent_session_id", "s-ws")
        await socket.accept(headers=[(b"x-agent-session-id", sid.encode())])
        if agent == "closer":
            await socket.send_text("bye")
            await socket.close(4001, "enough")
            return
        try:
            while True:
                message = await socket.receive()
                if message.get("text") == "restart":
                    await socket.close(1001, "drain")
                    return
                if agent == "leaver":
                    await socket.send_text(message.get("text") or "")
                    continue
                if message["type"] == "websocket.disconnect":
                    return
                if message.get("text") is not None:
                    await socket.send_text(message["text"].upper())
                else:
                    await socket.send_bytes(message["bytes"])
        except WebSocketDisconnect:
            return


def session(name: str, accessed_at: int) -> dict[str, Any]:
    return {
        "agent_session_id": name,
        "version_indicator": {"type": "version_ref", "agent_version": "3"},
        "status": "idle",
        "created_at": 900,
        "last_accessed_at": accessed_at,
        "expires_at": 9000,
    }


@asynccontextmanager
async def _serve(platform: FakePlatform) -> AsyncIterator[None]:
    config = uvicorn.Config(
        platform.app(), port=0, ws="websockets-sansio", lifespan="off", log_level="error"
    )
    server = uvicorn.Server(config)
    sock = config.bind_socket()
    platform.url = f"http://127.0.0.1:{sock.getsockname()[1]}/api/projects/default"
    task = asyncio.create_task(server.serve([sock]))
    try:
        yield
    finally:
        server.should_exit = True
        await task
        sock.close()


@pytest.fixture(scope="session")
def fake_platform() -> Iterator[FakePlatform]:
    fake = FakePlatform()
    started, ended = threading.Event(), threading.Event()
    failure: list[BaseException] = []

    async def work() -> None:
        async with _serve(fake):
            started.set()
            await asyncio.to_thread(ended.wait)

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as exc:
            failure.append(exc)
            raise
        finally:
            started.set()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    try:
        yield fake
    finally:
        ended.set()
        thread.join()
    assert not failure


@pytest.fixture
def platform(fake_platform: FakePlatform) -> FakePlatform:
    fake_platform.reset()
    return fake_platform


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def cli(
    platform: FakePlatform,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Run:
    """Run the command against the stand-in; ``stdin`` is what it reads."""
    monkeypatch.setenv("TRUNKLINE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TRUNKLINE_ENDPOINT", platform.url)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("TRUNKLINE_TOKEN", raising=False)
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)

    def run(*words: str, stdin: bytes = b"") -> Result:
        reader, writer = os.pipe()
        os.write(writer, stdin)
        os.close(writer)
        monkeypatch.setattr(talking, "STDIN", reader)
        capfd.readouterr()
        try:
            code = main(words)
        finally:
            os.close(reader)
        shown = capfd.readouterr()
        return Result(code, shown.out, shown.err)

    return run
