"""``trunkline keys``, ``revoke`` and ``audit`` against a whole platform."""

import asyncio
import json
import re
import subprocess
import sys

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.platform import Finished, Platform, ask, clean_environment
from trunkline.auth.issuer import ISSUER


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"TRUNKLINE_GATEWAY_CREDENTIAL_CHECK_S": "0.1"}


def run_as(platform: Platform, token: str, *arguments: str) -> Finished:
    """Run a command with a token of the environment."""
    done = subprocess.run(
        [sys.executable, "-m", "trunkline", *arguments],
        capture_output=True, text=True, timeout=120, check=False,
        env=clean_environment()
        | {"TRUNKLINE_ENDPOINT": platform.endpoint, "TRUNKLINE_TOKEN": token},
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr)


async def closed(websocket: object) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        await asyncio.wait_for(websocket.recv(), 30)  # type: ignore[attr-defined]
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def test_a_key_is_printed_once_works_and_is_revoked(platform: Platform, probe: str) -> None:
    made = await asyncio.to_thread(
        platform.run, "keys", "create", "nightly", "--role", f"invoker@default/{probe}",
        "--expires-in-days", "1",
    )  # fmt: skip
    assert made.code == 0, made.stderr
    # Nothing but the key on stdout: KEY=$(trunkline keys create ...).
    key = made.stdout.removesuffix("\n")
    assert re.fullmatch(r"tlk_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", key)
    key_id = key.split("_")[1]
    assert key not in made.stderr
    assert f"trunkline keys revoke {key_id}" in made.stderr
    listed = platform.run("keys", "list")
    assert key_id in listed.stdout
    assert f"invoker@default/{probe}" in listed.stdout
    assert key not in listed.stdout
    (found,) = json.loads(platform.run("keys", "list", "-o", "json").stdout)
    assert found["id"] == key_id
    assert "key" not in found
    assert run_as(platform, key, "invoke", probe, "hello", "--session-id", "k").code == 0
    assert run_as(platform, key, "list").code == 1
    async with platform.connect(probe, "k", token=key) as websocket:
        await ask(websocket, "facts")
        gone = await asyncio.to_thread(platform.run, "keys", "revoke", key_id)
        assert gone.code == 0, gone.stderr
        assert await closed(websocket) == (1008, "what you came in with was revoked")
    assert "no API keys" in platform.run("keys", "list").stderr
    assert key not in platform.log()


def test_a_key_as_json(platform: Platform) -> None:
    made = platform.run("keys", "create", "n", "--role", "reader", "--output", "json")
    document = json.loads(made.stdout)
    assert document["key"].startswith(f"tlk_{document['id']}_")
    assert document["roles"] == ["reader@default"]
    assert document["key"] not in made.stderr
    assert platform.run("keys", "revoke", document["id"]).code == 0


def test_keys_that_cannot_be_made_or_revoked(platform: Platform) -> None:
    wrong_role = platform.run("keys", "create", "n", "--role", "root")
    assert wrong_role.code == 2
    assert "isn't a grant" in wrong_role.stderr
    assert platform.run("keys", "create", "n").code == 2
    elsewhere = platform.run("keys", "create", "n", "--role", "admin@other")
    assert (elsewhere.code, elsewhere.stdout) == (1, "")
    assert "its own project only" in elsewhere.stderr
    too_long = platform.run("keys", "create", "n", "--role", "reader", "--expires-in-days", "400")
    assert too_long.code == 1
    assert "expires_in_days" in too_long.stderr
    missing = platform.run("keys", "revoke", "0" * 16)
    assert (missing.code, len(missing.stderr.splitlines())) == (1, 1)
    assert "no API key" in missing.stderr


def test_who_is_no_admin_is_told_what_it_takes(platform: Platform) -> None:
    token = platform.token()
    for words in (
        ("keys", "list"), ("keys", "create", "n", "--role", "reader"), ("keys", "revoke", "0" * 16),
        ("revoke", "eve"), ("revoke", "--list"), ("audit",), ("audit", "--all-projects"),
    ):  # fmt: skip
        done = run_as(platform, token, *words)
        assert (done.code, done.stdout) == (1, ""), words
        assert "role admin" in done.stderr, words
        assert token not in done.stderr


async def test_who_is_revoked_is_cut_off(platform: Platform, probe: str) -> None:
    old = platform.token("--user", "eve")
    async with platform.connect(probe, "eves", token=old) as websocket:
        await ask(websocket, "facts")
        done = await asyncio.to_thread(platform.run, "revoke", "eve")
        assert (done.code, done.stdout) == (0, ""), done.stderr
        assert f"eve of {ISSUER} is revoked" in done.stderr
        assert await closed(websocket) == (1008, "what you came in with was revoked")
    identity = "https://login.example.com|olga|2"
    shown = json.loads(platform.run("revoke", identity, "-o", "json").stdout)
    assert (shown["issuer"], shown["subject"]) == ("https://login.example.com", "olga|2")
    listed = platform.run("revoke", "--list")
    assert f"{ISSUER}|eve" in listed.stdout
    assert identity in listed.stdout
    documents = json.loads(platform.run("revoke", "--list", "-o", "json").stdout)
    assert {each["subject"] for each in documents} >= {"eve", "olga|2"}
    for words in (("revoke",), ("revoke", "eve", "--list"), ("revoke", "|eve")):
        assert platform.run(*words).code in (1, 2), words


async def test_the_audit_log_is_shown_and_narrowed_down(platform: Platform, probe: str) -> None:
    ada = platform.token("--user", "ada")
    async with platform.connect(probe, "adas", token=ada) as websocket:
        await ask(websocket, "facts")
    for _ in range(100):
        done = platform.run("audit", "--action", "connect", "--session-id", "adas", "-o", "json")
        if entries := json.loads(done.stdout):
            break
        await asyncio.sleep(0.1)
    (entry,) = entries
    assert (entry["identity"], entry["status"]) == (f"{ISSUER}|ada", 101)
    table = platform.run("audit", "--identity", f"{ISSUER}|ada", "--agent", probe).stdout
    assert table.splitlines()[0].split() == [
        "AT", "ACTION", "STATUS", "AGENT", "SESSION", "WHO", "FROM",
    ]  # fmt: skip
    assert "adas" in table
    assert len(platform.run("audit", "--limit", "2").stdout.splitlines()) == 3
    # Who was refused before it was known where to, and who was revoked, is about no project.
    refused = httpx2.get(
        f"{platform.url}/api/projects/nowhere/agents", headers={"Authorization": "Bearer a.b.c"},
        trust_env=False,
    )  # fmt: skip
    assert refused.status_code == 401
    for _ in range(100):
        everything = json.loads(platform.run("audit", "--all-projects", "-o", "json").stdout)
        of_none = [entry for entry in everything if entry["project"] is None]
        if any(e["request_id"] == refused.headers["x-request-id"] for e in of_none):
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError("a refusal isn't in the audit log")
    assert "revoke" in {entry["action"] for entry in of_none}
    assert {entry["project"] for entry in json.loads(done.stdout)} == {"default"}
    nothing = platform.run("audit", "--action", "nothing")
    assert (nothing.code, nothing.stdout) == (0, "")
    assert ada not in table
