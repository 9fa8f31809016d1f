"""What a client sends wrongly gets the envelope, the right code, and leaves nothing half done."""

import asyncio
import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.platform import Platform, ask

DEFINITION: dict[str, Any] = {
    "kind": "hosted",
    "cpu": "1",
    "memory": "2Gi",
    "code_configuration": {"entry_point": ["python", "main.py"]},
    "protocol_versions": [{"protocol": "invocations", "version": "2.0.0"}],
}
ENVELOPE = {"code", "message", "param", "type", "details", "additionalInfo", "debugInfo"}


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"TRUNKLINE_CONTROL_MAX_FILE_BYTES": "100000", "TRUNKLINE_CONTROL_MAX_VERSIONS": "3"}


@pytest.fixture(scope="module")
def http(platform: Platform, token: str, probe: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(
        base_url=f"{platform.endpoint}/",
        headers={"Authorization": f"Bearer {token}"},
        params={"api-version": "v1"},
        timeout=30,
        trust_env=False,
        # Below the server's own: a connection must not be used just as it is closed there.
        limits=httpx2.Limits(keepalive_expiry=1),
    ) as client:
        made = client.post(f"agents/{probe}/endpoint/sessions", json={"agent_session_id": "mine"})
        assert made.status_code == 201, made.text
        yield client


def refused(answer: httpx2.Response, status: int, code: str, words: str = "") -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == ENVELOPE
    assert error["code"] == code, error
    assert words in error["message"], error
    assert "Traceback" not in answer.text


def zipped(fill: Callable[[zipfile.ZipFile], None]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        fill(archive)
    return file.getvalue()


def code_with(name: str, content: bytes = b"x") -> bytes:
    return zipped(lambda archive: archive.writestr(zipfile.ZipInfo(name), content))


def link() -> bytes:
    info = zipfile.ZipInfo("main.py")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zipped(lambda archive: archive.writestr(info, "/etc/passwd"))


GOOD_CODE = code_with("main.py", b"print('hi')")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "definition"),
        ([], None),
        ("text", None),
        ({"definition": None}, "definition"),
        ({"definition": {**DEFINITION, "kind": "prompt"}}, "definition.kind"),
        ({"definition": {**DEFINITION, "cpu": 9}}, "definition.cpu"),
        ({"definition": {**DEFINITION, "memory": "1Pi"}}, "definition.memory"),
        ({"definition": {**DEFINITION, "protocol_versions": []}}, "definition.protocol_versions"),
        (
            {"definition": {**DEFINITION, "environment_variables": {"FOUNDRY_X": "1"}}},
            "definition.environment_variables",
        ),
        (
            {"definition": {**DEFINITION, "environment_variables": {"A": 1}}},
            "definition.environment_variables.A",
        ),
        ({"definition": DEFINITION, "metadata": {"k": 1}}, "metadata.k"),
        ({"definition": DEFINITION, "metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"definition": DEFINITION, "description": 3}, "description"),
        ({"definition": DEFINITION, "draft": "perhaps"}, "draft"),
        ({"definition": DEFINITION}, "definition"),
    ],
)
def test_definitions(http: httpx2.Client, body: Any, param: str | None) -> None:
    for path in ("agents/new/versions", "agents"):
        sent = {"name": "new", **body} if isinstance(body, dict) else body
        answer = http.post(path, json=sent)
        refused(answer, 400, "invalid_request")
        assert answer.json()["error"]["param"] == param, answer.text
    refused(http.get("agents/new"), 404, "agent_not_found")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"a":NaN}', b'{"description":"\\ud800"}', b"[" * 100_000]
)
def test_what_is_no_json(http: httpx2.Client, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    refused(http.post("agents/new/versions", content=body, headers=headers), 400, "invalid_request")
    refused(http.patch("agents/probe", content=body, headers=headers), 400, "invalid_request")


def test_unknown_fields_are_kept(http: httpx2.Client) -> None:
    answer = http.post(
        "agents/curious/versions",
        data={"metadata": json.dumps({"definition": {**DEFINITION, "odd": [1]}, "odder": 2})},
        files={"code": ("a.zip", GOOD_CODE)},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["definition"]["odd"] == [1]
    assert http.delete("agents/curious").status_code == 200


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"", "zip"),
        (b"not a zip at all", "zip"),
        (code_with("../evil.py"), "../evil.py"),
        (code_with("/etc/evil.py"), "evil.py"),
        (code_with("a/../../evil.py"), "evil.py"),
        (code_with("C:\\evil.py"), "evil.py"),
        (link(), "link"),
        (GOOD_CODE[:-30], "zip"),
    ],
)
def test_zips(http: httpx2.Client, code: bytes, words: str) -> None:
    answer = http.post(
        "agents/new/versions",
        data={"metadata": json.dumps({"definition": DEFINITION})},
        files={"code": ("a.zip", code)},
    )
    refused(answer, 400, "invalid_code_package", words)
    refused(http.get("agents/new"), 404, "agent_not_found")


def test_a_zip_that_is_a_bomb_fails_its_build_and_fills_no_disk(http: httpx2.Client) -> None:
    bomb = zipped(lambda archive: archive.writestr("zeros", bytes(2 * 1024**2)))
    # Said to be small, and two MiB when it is unpacked: sizes are counted then.
    at = bomb.find(b"PK\x01\x02")
    lied = bomb[: at + 24] + (10).to_bytes(4, "little") + bomb[at + 28 :]
    answer = http.post(
        "agents/bomb/versions",
        data={"metadata": json.dumps({"definition": DEFINITION})},
        files={"code": ("a.zip", lied)},
    )
    assert answer.status_code == 200, answer.text
    while (found := http.get("agents/bomb/versions/1").json())["status"] == "creating":
        continue
    assert found["status"] == "failed", found
    assert http.delete("agents/bomb").status_code == 200


def test_a_sum_that_does_not_fit(http: httpx2.Client) -> None:
    answer = http.post(
        "agents/new/versions",
        data={"metadata": json.dumps({"definition": DEFINITION})},
        files={"code": ("a.zip", GOOD_CODE)},
        headers={"x-ms-code-zip-sha256": hashlib.sha256(b"other").hexdigest()},
    )
    refused(answer, 400, "invalid_request", "x-ms-code-zip-sha256 says")
    refused(http.get("agents/new"), 404, "agent_not_found")


@pytest.mark.parametrize("name", ["a_b", "-a", "a-", "a" * 64, "ä", "a b", ".."])
def test_names_of_agents(http: httpx2.Client, name: str) -> None:
    answer = http.post("agents", json={"name": name, "definition": DEFINITION})
    refused(answer, 400, "invalid_request", "name")
    assert http.get(f"agents/{name}x_y").status_code == 404


def test_more_versions_than_may_be(http: httpx2.Client) -> None:
    for number in range(4):
        answer = http.post(
            "agents/many/versions",
            data={
                "metadata": json.dumps({"definition": DEFINITION, "draft": True}),
            },
            files={"code": ("a.zip", GOOD_CODE)},
        )
        if number < 3:
            assert answer.status_code == 200, answer.text
    refused(answer, 400, "UserError", "3 are the most")
    assert http.delete("agents/many").status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"agent_endpoint": {"version_selector": {"version_selection_rules": []}}}, "version"),
        (
            {"agent_endpoint": {"version_selector": {"version_selection_rules": [
                {"type": "FixedRatio", "agent_version": "1", "traffic_percentage": 60},
                {"type": "FixedRatio", "agent_version": "2", "traffic_percentage": 60},
            ]}}},
            "adds up to 120",
        ),
        (
            {"agent_endpoint": {"version_selector": {"version_selection_rules": [
                {"type": "FixedRatio", "agent_version": "1", "traffic_percentage": 90},
                {"type": "FixedRatio", "agent_version": "99", "traffic_percentage": 10},
            ]}}},
            "the agent has no version 99; a rule names one that is there, or @latest",
        ),
        ({"agent_endpoint": {"protocol_configuration": {"telepathy": {}}}}, "telepathy"),
        ({"agent_endpoint": "text"}, "agent_endpoint"),
        ({"agent_card": {"skills": [{}]}}, "agent_card.skills"),
    ],
)  # fmt: skip
def test_endpoints(http: httpx2.Client, probe: str, body: Any, words: str) -> None:
    before = http.get(f"agents/{probe}").json()
    refused(http.patch(f"agents/{probe}", json=body), 400, "invalid_request", words)
    assert http.get(f"agents/{probe}").json() == before


def test_rules_are_about_versions_that_are_there(http: httpx2.Client, probe: str) -> None:
    def body(version: Any) -> dict[str, Any]:
        rule = {"type": "FixedRatio", "agent_version": version, "traffic_percentage": 100}
        return {"agent_endpoint": {"version_selector": {"version_selection_rules": [rule]}}}

    # With a new version, nothing of which is made either if the rules can't be kept.
    def send(path: str, version: Any, **more: Any) -> httpx2.Response:
        parts = {"metadata": json.dumps({"definition": DEFINITION, **body(version), **more})}
        return http.post(path, data=parts, files={"code": ("a.zip", GOOD_CODE)})

    words = "the agent has no version 7"
    refused(send("agents", "7", name="ruled"), 400, "invalid_request", words)
    refused(send("agents", "1", name="ruled", draft=True), 400, "invalid_request", "no version 1")
    assert http.get("agents/ruled").status_code == 404
    assert send("agents", "1", name="ruled").status_code == 200
    refused(send("agents/ruled", "7", description="changed"), 400, "invalid_request", words)
    assert len(http.get("agents/ruled/versions").json()["data"]) == 1
    # The older form of a number is one, too.
    for version in (1, "1", "@latest"):
        assert http.patch("agents/ruled", json=body(version)).status_code == 200
    refused(http.patch("agents/ruled", json=body(7)), 400, "invalid_request", words)
    # What isn't about rules isn't measured by them.
    assert http.patch("agents/ruled", json={"agent_card": {"skills": []}}).status_code == 200
    assert http.delete("agents/ruled", params={"force": "true"}).status_code == 200


@pytest.mark.parametrize("path", ["agents/{}/versions:import", "agents:import", "agents/{}/import"])
def test_there_is_no_catalogue_to_import_from(http: httpx2.Client, probe: str, path: str) -> None:
    body = {"manifest_id": "azureml://registries/x/y", "parameter_values": {}}
    refused(http.post(path.format(probe), json=body), 404, "not_found", "nothing is at")


def test_a_log_is_of_the_sessions_version(http: httpx2.Client, probe: str) -> None:
    body = {"agent_session_id": "versioned"}
    assert http.post(f"agents/{probe}/endpoint/sessions", json=body).status_code == 201
    tail = "sessions/versioned:logstream"
    query = {"follow": "false"}
    assert http.get(f"agents/{probe}/versions/1/{tail}", params=query).status_code == 200
    words = "session 'versioned' is on version 1, not on"
    for version in ("2", "@latest", "01"):
        answer = http.get(f"agents/{probe}/versions/{version}/{tail}", params=query)
        refused(answer, 404, "version_not_found", words)
    # Whose session it is comes first.
    answer = http.get(f"agents/{probe}/versions/2/sessions/nobodys:logstream", params=query)
    refused(answer, 403, "session_not_accessible", "")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"agent_session_id": "a/b"}, 400, "invalid_request"),
        ({"agent_session_id": "x" * 257}, 400, "invalid_request"),
        ({"agent_session_id": 7}, 400, "invalid_request"),
        ({"version_indicator": "1"}, 400, "invalid_request"),
        ({"version_indicator": {"type": "other", "agent_version": "1"}}, 400, "invalid_request"),
        ({"version_indicator": {"agent_version": 1}}, 400, "invalid_request"),
        ({"version_indicator": {"agent_version": "@latest"}}, 400, "invalid_request"),
        ({"version_indicator": {"agent_version": "99"}}, 404, "version_not_found"),
        ({"version_indicator": {"agent_version": "1; drop table"}}, 404, "version_not_found"),
        ([], 400, "invalid_request"),
    ],
)
def test_sessions(http: httpx2.Client, probe: str, body: Any, status: int, code: str) -> None:
    before = http.get(f"agents/{probe}/endpoint/sessions").json()["data"]
    refused(http.post(f"agents/{probe}/endpoint/sessions", json=body), status, code)
    after = http.get(f"agents/{probe}/endpoint/sessions").json()["data"]
    assert [s["agent_session_id"] for s in after] == [s["agent_session_id"] for s in before]


@pytest.mark.parametrize(
    "query",
    [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"order": "up"}, {"after": "nobody"},
     {"before": "\0"}, {"after": "x" * 300}],
)  # fmt: skip
def test_pages(http: httpx2.Client, probe: str, query: dict[str, str]) -> None:
    for path in ("agents", f"agents/{probe}/versions", f"agents/{probe}/endpoint/sessions"):
        refused(http.get(path, params=query), 400, "invalid_request")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("..", "path_outside_home"),
        ("../../etc/passwd", "path_outside_home"),
        ("/../x", "path_outside_home"),
        ("a/../../x", "path_outside_home"),
        ("", "invalid_request"),
        (".", "invalid_request"),
        ("a\0b", "invalid_request"),
        ("x" * 300, "invalid_request"),
    ],
)
def test_paths_of_files(http: httpx2.Client, probe: str, path: str, code: str) -> None:
    files = f"agents/{probe}/endpoint/sessions/mine/files"
    refused(http.put(f"{files}/content", params={"path": path}, content=b"x"), 400, code)
    refused(http.get(f"{files}/content", params={"path": path}), 400, code)
    refused(http.delete(files, params={"path": path, "recursive": "true"}), 400, code)


def test_files_that_do_not_fit(http: httpx2.Client, probe: str) -> None:
    files = f"agents/{probe}/endpoint/sessions/mine/files"
    put = {"path": "big"}
    refused(
        http.put(f"{files}/content", params=put, content=bytes(100_001)), 413, "payload_too_large"
    )

    def unannounced() -> Iterator[bytes]:
        for _ in range(11):
            yield bytes(10_000)

    refused(
        http.put(f"{files}/content", params=put, content=unannounced()), 413, "payload_too_large"
    )
    refused(http.get(f"{files}/stat", params=put), 404, "file_not_found")
    refused(http.delete(files, params=put), 404, "file_not_found")
    refused(http.get(files, params={"path": "nowhere"}), 404, "file_not_found")
    refused(http.post(f"{files}/mkdir", json={"path": 3}), 400, "invalid_request")
    assert http.post(f"{files}/mkdir", json={"path": "d/e"}).status_code == 201
    refused(http.put(f"{files}/content", params={"path": "d"}, content=b"x"), 409, "conflict")
    refused(http.delete(files, params={"path": "d"}), 409, "conflict", "recursive=true")
    refused(http.get(files.replace("mine", "nobodys")), 403, "session_not_accessible", "nobodys")


def test_an_upload_that_breaks_off_leaves_nothing(
    http: httpx2.Client, platform: Platform, probe: str
) -> None:
    files = f"agents/{probe}/endpoint/sessions/mine/files"

    def breaking() -> Iterator[bytes]:
        yield bytes(1000)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        http.put(f"{files}/content", params={"path": "half"}, content=breaking())
    refused(http.get(f"{files}/stat", params={"path": "half"}), 404, "file_not_found")
    assert not any(path.is_file() for path in (platform.state_dir / "sessions/.uploads").glob("*"))


def test_somebody_elses_session_and_one_that_is_not_there_are_refused_alike(
    http: httpx2.Client, platform: Platform, probe: str
) -> None:
    session = f"agents/{probe}/endpoint/sessions/mine"
    other = {"Authorization": f"Bearer {platform.token('--user', 'berta')}"}
    for method, path in (
        ("GET", session),
        ("POST", f"{session}:stop"),
        ("DELETE", session),
        ("GET", f"{session}/files"),
        ("GET", f"{session}/files/content?path=a"),
        ("PUT", f"{session}/files/content?path=a"),
        ("DELETE", f"{session}/files?path=a"),
        ("GET", f"{session}/files/stat?path=a"),
        ("POST", f"{session}/files/mkdir"),
        ("GET", f"agents/{probe}/sessions/mine:logstream"),
        ("GET", f"agents/{probe}/versions/1/sessions/mine:logstream"),
    ):
        answer = http.request(method, path, headers=other)
        refused(answer, 403, "session_not_accessible")
        nobodys = http.request(method, path.replace("mine", "none"), headers=other)
        assert nobodys.status_code == answer.status_code, path
        # To the letter, but for the id that was asked for.
        assert nobodys.text == answer.text.replace("mine", "none")
    listed = http.get(f"agents/{probe}/endpoint/sessions", headers=other).json()
    assert listed["data"] == []
    assert http.get(session).status_code == 200


def test_conversations(http: httpx2.Client, platform: Platform, probe: str) -> None:
    conversations = f"agents/{probe}/endpoint/protocols/openai/conversations"
    made = http.post(conversations, json={}).json()["id"]
    for body in ({"items": "x"}, {"items": [1]}, {"metadata": {"a": 1}}, {"items": [{}] * 21}):
        refused(http.post(conversations, json=body), 400, "invalid_request")
    refused(http.get(f"{conversations}/nope"), 404, "conversation_not_found")
    refused(http.get(f"{conversations}/{made}/items/x"), 404, "conversation_not_found")
    other = {"Authorization": f"Bearer {platform.token('--user', 'berta')}"}
    refused(http.get(f"{conversations}/{made}", headers=other), 404, "conversation_not_found")
    # A call id that was made up stands for nobody.
    anonymous = httpx2.get(
        f"{platform.endpoint}/{conversations}/{made}/items?api-version=v1",
        headers={"x-agent-foundry-call-id": "0" * 32},
        trust_env=False,
    )
    refused(anonymous, 401, "unauthenticated")
    responses = f"agents/{probe}/endpoint/protocols/openai/responses"
    refused(http.post(responses, json={"input": "x"}), 404, "protocol_not_declared")
    refused(http.get(f"{responses}/resp_1"), 404, "response_not_found")


async def test_many_make_one_session(platform: Platform, token: str, probe: str) -> None:
    async with httpx2.AsyncClient(
        base_url=platform.endpoint,
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
        trust_env=False,
    ) as http:
        path = f"/agents/{probe}/endpoint/sessions?api-version=v1"
        answers = await asyncio.gather(
            *(http.post(path, json={"agent_session_id": "crowd"}) for _ in range(12))
        )
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["created_at"] for answer in answers}) == 1
        deleted = await asyncio.gather(
            *(http.delete(f"/agents/{probe}/endpoint/sessions/crowd?api-version=v1") for _ in "abc")
        )
        assert {answer.status_code for answer in deleted} == {204}


async def test_deleting_what_is_in_use(
    platform: Platform, token: str, probe: str, http: httpx2.Client
) -> None:
    session = f"agents/{probe}/endpoint/sessions/used"
    async with platform.connect(probe, "used", token=token) as websocket:
        assert (await ask(websocket, "facts"))["pid"]
        put = http.put(f"{session}/files/content", params={"path": "of-used"}, content=b"x")
        assert put.status_code == 201
        (home,) = (platform.state_dir / "sessions").glob("*/home/of-used")
        for path in (f"agents/{probe}", f"agents/{probe}/versions/1"):
            before = http.get(path).json()
            refused(http.delete(path), 409, "conflict", "session")
            assert http.get(path).json()["object"] == before["object"]
        # Nothing of it has happened.
        assert (await ask(websocket, "facts"))["pid"]
        assert http.get(session).json()["status"] == "active"
        # A session's own deletion is what ends it, with its connections and its files.
        assert http.delete(session).status_code == 204
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert not home.parent.parent.exists()
    refused(http.get(session), 404, "session_not_found")
    refused(http.get(f"{session}/files", params={"path": "/"}), 404, "session_not_found")
    # The id is free, and what is made of it is new.
    async with platform.connect(probe, "used", token=token) as websocket:
        assert (await ask(websocket, "facts"))["pid"]
    listed = http.get(f"{session}/files", params={"path": "/"}).json()["entries"]
    assert listed == []
    assert http.delete(session).status_code == 204
