"""The console's files and its few requests, without a network."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from trunkline.auth.issuer import DevelopmentIssuer
from trunkline.console.app import Console
from trunkline.console.pages import load_pages
from trunkline.console.signin import SignIns, make_link
from trunkline.gateway.responses import headers_for
from trunkline.protocol.errors import TrunklineError, envelope

JSON = {"content-type": "application/json"}


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    async def refuse(_: Any, error: Any) -> Any:
        return JSONResponse(envelope(error), error.status, headers=dict(headers_for(error)))

    console = Console(SignIns(tmp_path, DevelopmentIssuer.open(tmp_path)))
    app = Starlette(routes=console.routes(), exception_handlers={TrunklineError: refuse})
    return TestClient(app, base_url="http://127.0.0.1:8080")


@pytest.fixture
def key(tmp_path: Path) -> str:
    return make_link(tmp_path, "", "olga").partition("#key=")[2]


def test_every_file_is_served_with_the_headers_that_bound_it(client: TestClient) -> None:
    pages = load_pages()
    assert {"index.html", "app.js", "console.css", "client/index.js"} <= set(pages)
    assert "client/audio/capture-worklet.js" in pages
    assert not any("node/" in path or path.endswith(".d.ts") for path in pages)
    for path, page in pages.items():
        got = client.get(f"/console/{path}")
        assert got.content == page.body
        policy = got.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert got.headers["referrer-policy"] == "no-referrer"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["content-type"] == page.media_type
        again = client.get(f"/console/{path}", headers={"if-none-match": got.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_nothing_in_the_files_is_from_elsewhere_or_inline() -> None:
    for path, page in load_pages().items():
        text = page.body.decode()
        hosts = set(re.findall(r"https?://([\w.-]+)", text)) - {"www.w3.org", "HOST"}
        assert hosts <= {"host.example"}, path
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(", text), path
    index = load_pages()["index.html"].body.decode()
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", index)


def test_every_import_is_a_file_that_is_there() -> None:
    pages = load_pages()
    for path, page in pages.items():
        folder = path.rpartition("/")[0].split("/") if "/" in path else []
        for target in re.findall(
            r'^(?:import|export)\b[^"]*?from "([^"]+)"', page.body.decode(), re.MULTILINE
        ):
            parts = [*folder]
            for part in target.split("/"):
                if part == "..":
                    parts.pop()
                elif part != ".":
                    parts.append(part)
            assert "/".join(parts) in pages, f"{path} imports {target}"


def test_the_address_without_a_slash_leads_to_the_page(client: TestClient) -> None:
    got = client.get("/console", follow_redirects=False)
    assert (got.status_code, got.headers["location"]) == (308, "/console/")


@pytest.mark.parametrize("path", ["nothing", "..%2f..%2fissuer.pem", "%00", "pages", "client/"])
def test_what_isnt_a_file_isnt_there(client: TestClient, path: str) -> None:
    assert client.get(f"/console/{path}").status_code == 404


def test_signing_in_renewing_and_signing_out(client: TestClient, key: str) -> None:
    got = client.post("/console/sign-in", json={"key": key})
    assert got.status_code == 200
    assert got.headers["cache-control"] == "no-store"
    assert "set-cookie" not in got.headers
    body = got.json()
    assert body["user"] == "olga"
    assert client.post("/console/sign-in", json={"key": key}).status_code == 401
    renewal = {"renewal": body["renewal"]}
    assert client.post("/console/renew", json=renewal).json()["user"] == "olga"
    assert client.post("/console/sign-out", json=renewal).status_code == 204
    assert client.post("/console/renew", json=renewal).status_code == 401


def test_the_ways_to_sign_in_are_told(client: TestClient) -> None:
    got = client.get("/console/sign-in")
    assert got.json() == {"links": True, "provider": None}
    assert got.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("back", "status"),
    [
        ("http://127.0.0.1:8080/console/", 401),
        ("https://127.0.0.1:8080/console/", 401),
        ("http://elsewhere.example/console/", 400),
        ("http://127.0.0.1:8080/other", 400),
    ],
)
def test_a_code_comes_back_to_the_console_and_needs_a_provider(
    client: TestClient, back: str, status: int
) -> None:
    body = {"code": "c", "verifier": "v", "nonce": "n", "redirect_uri": back}
    assert client.post("/console/sign-in", json=body).status_code == status
    assert client.post("/console/renew", json={"renewal": "provider.x"}).status_code == 401
    assert client.post("/console/sign-out", json={"renewal": "provider.x"}).status_code == 204


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:8080"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "https://127.0.0.1"}, 403),
        ({"origin": "http://elsewhere.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_only_the_consoles_own_pages_sign_in(
    client: TestClient, key: str, headers: dict[str, str], status: int
) -> None:
    got = client.post("/console/sign-in", json={"key": key}, headers=headers)
    assert got.status_code == status
    if status == 403:
        assert client.post("/console/sign-in", json={"key": key}).status_code == 200


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{}", JSON),
        (b'{"key": ""}', JSON),
        (b'{"key": 5}', JSON),
        (b"[]", JSON),
        (b"key=x", {"content-type": "application/x-www-form-urlencoded"}),
        (b'{"key": "x"}', {"content-type": "text/plain"}),
        (b'{"key": "x"}', {}),
    ],
)
def test_what_isnt_a_json_object_with_a_key_is_refused(
    client: TestClient, body: bytes, headers: dict[str, str]
) -> None:
    got = client.post("/console/sign-in", content=body, headers=headers)
    assert got.status_code == 400
    assert got.json()["error"]["code"] == "invalid_request"
    assert json.loads(got.content)["error"]["message"]
