"""Every route answers every caller as the table in ``tests/support/access_table.txt`` says."""

import datetime as dt
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
import jwt
import pytest
from starlette.routing import compile_path

from tests.support.access_table import CALLERS, Row, rows
from tests.support.platform import Platform
from tests.support.routes import platform_routes, resource_routes
from trunkline.auth.issuer import ISSUER, DevelopmentIssuer

PREVIEW = "/api/projects/agents/endpoint/protocols/invocations_ws"
#: Where the session stands in the path, or is the body's to name.
QUERY = "api-version=v1"


@pytest.fixture(scope="module")
def callers(platform: Platform, probe: str) -> dict[str, dict[str, str]]:
    """The headers each caller sends."""
    issuer = DevelopmentIssuer.open(platform.state_dir)
    stranger = DevelopmentIssuer.open(platform.state_dir.parent / "stranger")
    good = issuer.issue("olga")
    head, payload, signature = good.split(".")
    bad = f"{head}.{payload}.{signature[:-4]}{'AAAA' if signature[-4:] != 'AAAA' else 'BBBB'}"
    tenant = jwt.encode(
        {"iss": "https://login.example/other/v2.0", "aud": "https://ai.azure.com", "sub": "olga",
         "exp": dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)},
        stranger._key, "ES256", headers={"kid": stranger.public_jwk["kid"]},
    )  # fmt: skip
    tokens = {
        "bad": bad,
        "expired": issuer.issue("olga", -60),
        "audience": issuer.issue("olga", audience="https://elsewhere.example"),
        "tenant": tenant,
        "reader": issuer.issue("rita", roles=["reader"]),
        "invoker": issuer.issue("ivan", roles=[f"invoker@default/{probe}"]),
        "deployer": issuer.issue("dora", roles=["deployer@default"]),
        "owner": good,
        "other": issuer.issue("otto"),
        "admin": issuer.issue("ada", roles=["admin"]),
        "acting": issuer.issue("svc", roles=["invoker", "impersonator"]),
        "posing": issuer.issue("eve", roles=["invoker"]),
    }
    named = {who: {"authorization": f"Bearer {token}"} for who, token in tokens.items()}
    for who in ("acting", "posing"):
        named[who]["x-ms-user-identity"] = "olga"
    return {"none": {}} | named


@pytest.fixture(scope="module")
def http(platform: Platform, callers: dict[str, dict[str, str]]) -> Iterator[httpx2.Client]:
    # Where a refusal leaves a body unread, the platform ends the connection.
    alone = httpx2.Limits(max_keepalive_connections=0)
    with httpx2.Client(base_url=platform.url, timeout=30, trust_env=False, limits=alone) as client:
        yield client


@pytest.fixture(scope="module")
def conversation(http: httpx2.Client, callers: dict[str, dict[str, str]], probe: str) -> str:
    """One that the owner made; also has the session made."""
    agent = f"/api/projects/default/agents/{probe}/endpoint"
    made = http.post(
        f"{agent}/sessions?{QUERY}", json={"agent_session_id": "mine"}, headers=callers["owner"]
    )
    assert made.status_code == 201, made.text
    made = http.post(f"{agent}/protocols/openai/conversations?{QUERY}", headers=callers["owner"])
    return str(made.json()["id"])


def path_of(row: Row, probe: str, conversation: str) -> str:
    path = re.sub(r"(?<=/)S(?=[/:]|$)", "mine", row.path)
    path = re.sub(r"(?<=/)C(?=/|$)", conversation, path)
    if path.startswith(("A/", "P/")) or path == "A":
        project = "/api/projects/default"
        start = {"A": f"{project}/agents/{probe}", "P": project}[path[0]]
        path = start + path[1:]
    return PREVIEW if path == "old" else path


def query_of(row: Row, probe: str) -> str:
    if row.path == "old":
        preview = f"project_name=default&agent_name={probe}"
        return f"{preview}&foundry_features=HostedAgents=V1Preview&agent_session_id=mine"
    follow = "&follow=false" if row.path.endswith(":logstream") else ""
    named = "&agent_session_id=mine" if "/protocols/invocations" in row.path else ""
    return QUERY + follow + named


def upgraded(platform: Platform, target: str, headers: dict[str, str]) -> int:
    """Ask for an upgrade; return the answer's status."""
    place = urlsplit(platform.url)
    lines = [
        f"GET {target} HTTP/1.1", f"host: {place.netloc}", "connection: Upgrade",
        "upgrade: websocket", "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]  # fmt: skip
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=60) as client:
        client.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        with client.makefile("rb") as answer:
            return int(answer.readline().split()[1])


def asked(
    row: Row, target: str, headers: dict[str, str], http: httpx2.Client, platform: Platform
) -> int:
    if row.method in ("WS", "OLDWS"):
        return upgraded(platform, target, headers)
    body = {"agent_session_id": "mine"} if row.body == "S" else None
    if row.path.endswith("/responses") and row.method == "POST":
        body = {"input": "x"}
    if row.method in ("POST", "PATCH", "PUT") and body is None and "conversations/C" in row.path:
        body = {}
    return http.request(row.method, target, headers=headers, json=body).status_code


@pytest.mark.parametrize("row", rows(), ids=str)
def test_the_route_answers_each_caller_as_the_table_says(
    row: Row,
    http: httpx2.Client,
    callers: dict[str, dict[str, str]],
    conversation: str,
    platform: Platform,
    probe: str,
) -> None:
    target = f"{path_of(row, probe, conversation)}?{query_of(row, probe)}"
    found = {
        who: asked(row, target, callers[who], http, platform)
        for who in CALLERS
        if row.statuses[who] is not None
    }
    assert found == {who: status for who, status in row.statuses.items() if status is not None}


def test_every_route_has_a_line_in_the_table() -> None:
    table = rows()
    missing = []
    for route in (*resource_routes(), *platform_routes()):
        pattern, _, _ = compile_path(route.path)
        for method in (route.methods or set()) - {"HEAD"}:
            if not any(
                row.method == method and pattern.match(path_of(row, "probe", "conv_1"))
                for row in table
            ):
                missing.append(f"{method} {route.path}")
    assert missing == []


def test_an_issuer_is_known_by_its_key_and_not_by_what_it_says(
    http: httpx2.Client, platform: Platform
) -> None:
    stranger = DevelopmentIssuer.open(platform.state_dir.parent / "stranger")
    token = stranger.issue("olga", roles=["admin"])
    assert jwt.decode(token, options={"verify_signature": False})["iss"] == ISSUER
    answer = http.get(
        f"/api/projects/default/agents?{QUERY}", headers={"authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 401


@pytest.mark.parametrize("name", ["authorization", "x-ms-user-identity", "x-session-isolation-key"])
def test_who_asks_and_for_whom_is_said_once(
    name: str,
    http: httpx2.Client,
    callers: dict[str, dict[str, str]],
    platform: Platform,
    probe: str,
) -> None:
    """A proxy that adds its own behind the client's must not speak for whom the client says."""
    target = f"/api/projects/default/agents/{probe}/endpoint/sessions?{QUERY}"
    given = callers["acting"] | {"x-session-isolation-key": "olga"}
    one = {key: value for key, value in given.items() if key in ("authorization", name)}
    assert http.get(target, headers=one).status_code == 200
    for twice in ([*one.items(), (name, one[name])], [(name, "eve"), *one.items()]):
        answer = http.get(target, headers=twice)
        assert (answer.status_code, name in answer.text) == (400, True)


def test_where_a_header_names_the_user_sessions_belong_to_that_user(
    http: httpx2.Client, callers: dict[str, dict[str, str]], platform: Platform, probe: str
) -> None:
    agent = f"/api/projects/default/agents/{probe}"
    source = [{"type": "Entra", "isolation_key_source": {"kind": "Header"}}]
    changed = http.patch(
        f"{agent}?{QUERY}",
        json={"agent_endpoint": {"authorization_schemes": source}},
        headers=callers["owner"],
    )
    assert changed.status_code == 200, changed.text
    service = {"authorization": callers["acting"]["authorization"]}
    one, two = (service | {"x-ms-user-identity": user} for user in ("u-1", "u-2"))

    def status(method: str, path: str, headers: dict[str, str], body: object = None) -> int:
        target = f"{agent}/endpoint/{path}?{QUERY}"
        return http.request(method, target, headers=headers, json=body).status_code

    assert status("POST", "sessions", one, {"agent_session_id": "shared"}) == 201
    assert status("GET", "sessions/shared", one) == 200
    assert status("GET", "sessions/shared", two) == 403
    assert status("GET", "sessions/shared", service) == 400
    assert status("GET", "sessions/shared", callers["admin"]) == 200
    assert status("GET", "sessions/shared", callers["owner"]) == 400
    assert status("DELETE", "sessions/shared", two) == 403
    target = f"{agent}/endpoint/protocols/invocations_ws?{QUERY}&agent_session_id=shared"
    assert upgraded(platform, target, one) == 101
    assert upgraded(platform, target, two) == 403
    assert upgraded(platform, target, service) == 400
    assert status("DELETE", "sessions/shared", one) == 204
