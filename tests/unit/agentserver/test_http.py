import asyncio
import logging
import re
import uuid

import pytest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.testclient import TestClient, WebSocketDenialResponse

from trunkline.agentserver import InvocationAgentServerHost, get_request_context


def make_app(handler=None, **options):
    app = InvocationAgentServerHost(**options)
    if handler is not None:
        app.invoke_handler(handler)
        app.get_invocation_handler(handler)
        app.cancel_invocation_handler(handler)
    return app


async def state(request):
    keys = ("invocation_id", "session_id", "user_id", "call_id")
    return JSONResponse({key: getattr(request.state, key) for key in keys})


async def context(_request):
    found = get_request_context()
    return JSONResponse([found.call_id, found.user_id, found.session_id, found.platform_headers()])


def fail_with(error):
    async def handler(_request):
        raise error

    return handler


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/readiness", 200),
        ("HEAD", "/readiness", 200),
        ("POST", "/readiness", 405),
        ("POST", "/invocations", 501),
        ("GET", "/invocations", 405),
        ("GET", "/invocations/x", 404),
        ("DELETE", "/invocations/x", 405),
        ("POST", "/invocations/x/cancel", 404),
        ("GET", "/invocations/x/cancel", 405),
        ("GET", "/invocations/docs/openapi.json", 404),
        ("GET", "/invocations/docs/asyncapi.json", 404),
        ("GET", "/invocations/docs/asyncapi.yaml", 404),
        ("GET", "/invocations_ws", 404),
        ("GET", "/liveness", 404),
    ],
)
def test_routes_without_handlers(method, path, status):
    response = TestClient(make_app()).request(method, path)
    assert response.status_code == status
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])
    assert response.headers["x-platform-server"].startswith("trunkline-agentserver/")
    assert response.headers["date"].endswith(" GMT")


def test_documents_are_served_as_given():
    app = make_app(
        openapi_spec={"openapi": "3"}, asyncapi_spec_json={"a": 1}, asyncapi_spec_yaml="a: 2\n"
    )
    client = TestClient(app)
    assert client.get("/invocations/docs/openapi.json").json() == {"openapi": "3"}
    assert client.get("/invocations/docs/asyncapi.json").json() == {"a": 1}
    yaml = client.get("/invocations/docs/asyncapi.yaml")
    assert yaml.text == "a: 2\n"
    assert yaml.headers["content-type"].startswith("application/yaml")


def test_a_handlers_answer_is_passed_on():
    async def handler(request):
        return Response(await request.body(), 202, media_type="application/x-mine")

    response = TestClient(make_app(handler)).post("/invocations", content=b"\0\xff")
    assert (response.status_code, response.content) == (202, b"\0\xff")
    assert response.headers["content-type"] == "application/x-mine"
    assert "x-platform-error-source" not in response.headers


class TestIds:
    def post(self, query="", env="", headers=None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FOUNDRY_AGENT_SESSION_ID", env)
            app = make_app(state)
        response = TestClient(app).post(f"/invocations{query}", headers=headers)
        found = response.json()
        assert response.headers["x-agent-session-id"] == found["session_id"]
        assert response.headers["x-agent-invocation-id"] == found["invocation_id"]
        return found

    def test_fresh_ones(self):
        found = self.post()
        assert str(uuid.UUID(found["session_id"])) == found["session_id"]
        assert str(uuid.UUID(found["invocation_id"])) == found["invocation_id"]

    def test_those_asked_for(self):
        found = self.post("?agent_session_id=s.1:2", "env", {"x-agent-invocation-id": "i" * 256})
        assert found["session_id"] == "s.1:2"
        assert found["invocation_id"] == "i" * 256

    def test_the_environments_session(self):
        assert self.post("?agent_session_id=", "env")["session_id"] == "env"

    @pytest.mark.parametrize("bad", ["a%20b", "abc%0a", "x" * 257])
    def test_a_bad_session_is_replaced_and_not_the_environments(self, bad):
        assert uuid.UUID(self.post(f"?agent_session_id={bad}", "env")["session_id"])

    def test_a_bad_environment_is_replaced(self):
        assert uuid.UUID(self.post(env="bad id!")["session_id"])

    def test_a_bad_invocation_id_is_replaced(self):
        found = self.post(headers={"x-agent-invocation-id": "i" * 257})
        assert uuid.UUID(found["invocation_id"])

    def test_callers(self):
        found = self.post(headers={"x-agent-user-id": "u", "x-agent-foundry-call-id": "c"})
        assert (found["user_id"], found["call_id"]) == ("u", "c")

    @pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("POST", "/cancel")])
    def test_of_an_existing_invocation(self, method, suffix):
        client = TestClient(make_app(state))
        response = client.request(method, f"/invocations/a%20b{suffix}")
        assert response.json()["invocation_id"] == "a b"
        assert response.json()["session_id"] == ""
        assert response.headers["x-agent-invocation-id"] == "a b"
        assert "x-agent-session-id" not in response.headers

    @pytest.mark.parametrize("odd", ["a%0d%0ax:1", "%E2%82%AC"])
    def test_that_fit_in_no_header_are_not_echoed(self, odd, caplog):
        client = TestClient(make_app(state))
        with caplog.at_level(logging.INFO):
            response = client.get(f"/invocations/{odd}")
        assert response.status_code == 200
        assert "x-agent-invocation-id" not in response.headers
        assert not any("\n" in record.message for record in caplog.records)

    def test_the_hosts_win_over_the_handlers(self):
        async def handler(_request):
            return Response(headers={"x-agent-invocation-id": "mine", "x-request-id": "mine"})

        response = TestClient(make_app(handler)).post(
            "/invocations", headers={"x-agent-invocation-id": "i", "x-request-id": "r"}
        )
        assert response.headers["x-agent-invocation-id"] == "i"
        assert response.headers.get_list("x-request-id") == ["r"]


TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-request-id": "abc-1"}, "abc-1"),
        ({"x-request-id": "abc", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}, TRACE),
        ({"x-request-id": "abc", "traceparent": f"00-{'0' * 32}-b7ad6b7169203331-01"}, "abc"),
        ({"x-request-id": "abc", "traceparent": "00-" + "Zz!@" * 8 + "-1111-01"}, "abc"),
    ],
)
def test_request_ids_that_are_taken_over(headers, expected):
    response = TestClient(make_app()).get("/readiness", headers=headers)
    assert response.headers["x-request-id"] == expected


@pytest.mark.parametrize("junk", ["<script>", "a" * 257, "a b"])
def test_request_ids_that_are_not(junk):
    response = TestClient(make_app()).get("/readiness", headers={"x-request-id": junk})
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ValueError("secret"), 500, "internal_error"),
        (NotImplementedError("secret"), 501, "not_implemented"),
        (HTTPException(400, "bad"), 400, "bad_request"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/invocations"), ("GET", "/invocations/i"), ("POST", "/invocations/i/cancel")],
)
def test_failures(error, status, code, method, path):
    response = TestClient(make_app(fail_with(error))).request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert "secret" not in response.text
    assert response.headers["x-platform-error-source"] == "upstream"
    assert response.headers["x-agent-invocation-id"]
    assert response.headers["x-request-id"]
    assert ("x-agent-session-id" in response.headers) == (path == "/invocations")


def test_a_failure_is_in_the_log(caplog):
    TestClient(make_app(fail_with(ValueError("secret")))).post("/invocations")
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None


def test_an_answer_has_to_be_a_response():
    async def handler(_request):
        return {"not": "a response"}

    response = TestClient(make_app(handler)).post("/invocations")
    assert response.json()["error"]["code"] == "internal_error"


class TestContext:
    HEADERS = {"x-agent-user-id": "u", "x-agent-foundry-call-id": "c"}  # noqa: RUF012

    def test_in_a_handler(self):
        response = TestClient(make_app(context)).post(
            "/invocations?agent_session_id=s", headers=self.HEADERS
        )
        assert response.json() == ["c", "u", "s", {"x-agent-foundry-call-id": "c"}]

    def test_is_empty_without_headers(self):
        response = TestClient(make_app(context)).get("/invocations/i")
        assert response.json() == [None, None, None, {}]

    def test_while_streaming_and_in_tasks_of_the_handler(self):
        async def handler(_request):
            async def parts():
                async with asyncio.TaskGroup() as group:
                    inner = group.create_task(inner_user())
                yield f"{get_request_context().user_id}{inner.result()}"

            async def inner_user():
                return get_request_context().user_id

            return StreamingResponse(parts())

        response = TestClient(make_app(handler)).post("/invocations", headers=self.HEADERS)
        assert response.text == "uu"

    def test_is_gone_afterwards(self):
        TestClient(make_app(context)).post("/invocations", headers=self.HEADERS)
        assert get_request_context().user_id is None


def test_a_stream_that_breaks_off_is_logged_and_raised(caplog):
    async def handler(_request):
        async def parts():
            yield "a"
            raise RuntimeError("broken stream")

        return StreamingResponse(parts())

    with pytest.raises(RuntimeError, match="broken stream"):
        TestClient(make_app(handler)).post("/invocations")
    assert "broke off" in caplog.text


def test_two_lines_a_request_and_quiet_about_readiness(caplog):
    client = TestClient(make_app())
    with caplog.at_level(logging.INFO, logger="azure.ai.agentserver"):
        client.get("/readiness")
        client.get("/nowhere%0d")
    start, end = caplog.records
    assert start.message.startswith("request started: GET /nowhere")
    assert "\r" not in start.message
    assert end.levelno == logging.WARNING
    assert "status=404" in end.message


def test_no_lines_without_a_logger(caplog):
    with caplog.at_level(logging.DEBUG):
        TestClient(make_app(access_log=None)).get("/nowhere")
    assert not [record for record in caplog.records if "request" in record.message]


@pytest.mark.parametrize("path", ["/invocations_ws", "/invocations", "/nowhere"])
def test_an_upgrade_without_a_route_is_refused(path):
    with pytest.raises(WebSocketDenialResponse) as caught:
        TestClient(make_app(state)).websocket_connect(path).__enter__()
    assert caught.value.status_code == 404
    assert caught.value.json()["error"]["code"] == "not_found"
    assert caught.value.headers["x-request-id"]
