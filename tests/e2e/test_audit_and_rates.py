"""What is recorded of what was done, and what becomes of those who ask too often."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.platform import Platform
from trunkline.auth.issuer import ISSUER, DevelopmentIssuer

SESSIONS_A_SECOND = 0.5


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {
        "TRUNKLINE_RATES_SESSIONS_PER_IDENTITY": str(SESSIONS_A_SECOND),
        "TRUNKLINE_RATES_UPGRADES_PER_IDENTITY": "1",
        "TRUNKLINE_RATES_CALLS_PER_IDENTITY": "3",
        "TRUNKLINE_RATES_FAILURES_PER_ADDRESS": "0.3",
    }


@pytest.fixture(scope="module")
def issuer(platform: Platform) -> DevelopmentIssuer:
    return DevelopmentIssuer.open(platform.state_dir)


@pytest.fixture(scope="module")
def http(platform: Platform, probe: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(
        base_url=f"{platform.endpoint}/", params={"api-version": "v1"}, timeout=60, trust_env=False
    ) as client:
        yield client


def bearer(issuer: DevelopmentIssuer, user: str, **options: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {issuer.issue(user, **options)}"}


def audit(http: httpx2.Client, issuer: DevelopmentIssuer, **query: str) -> list[dict[str, Any]]:
    # At once: whoever has just done something finds it.
    admin = bearer(issuer, f"ada-{time.monotonic_ns()}", roles=["admin"])
    answer = http.get("audit", params={"limit": "100", **query}, headers=admin)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def test_who_did_what_is_recorded(
    http: httpx2.Client, issuer: DevelopmentIssuer, platform: Platform, probe: str
) -> None:
    olga = bearer(issuer, "olga")
    agent = f"agents/{probe}"
    token = olga["Authorization"].removeprefix("Bearer ")
    async with platform.connect(probe, "recorded", token=token):
        pass
    made = http.post(f"{agent}/endpoint/sessions", json={"agent_session_id": "made"}, headers=olga)
    assert made.status_code == 201
    assert http.get(f"{agent}/endpoint/sessions/made/files", headers=olga).status_code == 200
    assert http.get(f"{agent}/endpoint/sessions", headers=olga).status_code == 200
    other = bearer(issuer, "otto", roles=["reader"])
    assert http.delete(agent, headers=other).status_code == 403
    assert http.delete(f"{agent}/endpoint/sessions/made", headers=olga).status_code == 204
    named = [
        (entry["action"], entry["status"], entry["agent_session_id"])
        for entry in audit(http, issuer, identity=f"{ISSUER}|olga")
    ]
    assert named == [
        ("delete_session", 204, "made"), ("list_files", 200, "made"),
        ("create_session", 201, "made"), ("connect", 101, "recorded"),
    ]  # fmt: skip
    (refused,) = audit(http, issuer, identity=f"{ISSUER}|otto")
    assert (refused["action"], refused["status"], refused["agent"]) == ("delete_agent", 403, probe)
    assert refused["address"] == "127.0.0.1"
    assert token not in str(audit(http, issuer))
    page = http.get(
        "audit", params={"limit": "1"}, headers=bearer(issuer, "ada", roles=["admin"])
    ).json()
    assert page["has_more"]
    following = audit(http, issuer, after=page["last_id"])
    assert following[0]["id"] < page["data"][0]["id"]


async def status_of(platform: Platform, probe: str, token: str, session: str) -> tuple[int, Any]:
    try:
        async with platform.connect(probe, session, token=token):
            return 101, None
    except InvalidStatus as error:
        return error.response.status_code, error.response


async def ask_at_once(
    platform: Platform, headers: dict[str, str], method: str, path: str, count: int
) -> list[httpx2.Response]:
    """Ask for the same so often at once: one after the other, there would be room again."""
    async with httpx2.AsyncClient(
        base_url=f"{platform.endpoint}/", params={"api-version": "v1"}, headers=headers,
        timeout=60, trust_env=False,
    ) as http:  # fmt: skip
        return await asyncio.gather(*(http.request(method, path) for _ in range(count)))


async def test_an_identity_that_asks_too_often_is_told_when_to_come_back(
    http: httpx2.Client, issuer: DevelopmentIssuer, platform: Platform, probe: str
) -> None:
    ina, agent = bearer(issuer, "ina"), f"agents/{probe}"
    begun = time.monotonic()
    made = await ask_at_once(platform, ina, "POST", f"{agent}/endpoint/sessions", 20)
    good = [answer for answer in made if answer.status_code == 201]
    assert 5 <= len(good) <= 5 + (time.monotonic() - begun) * SESSIONS_A_SECOND
    refusals = [answer for answer in made if answer.status_code == 429]
    assert len(good) + len(refusals) == 20
    error = refusals[0].json()["error"]
    assert error["code"] == "rate_limited"
    assert "sessions_per_identity" in error["message"]
    assert 1 <= int(refusals[0].headers["retry-after"]) <= 2
    session = good[0].json()["agent_session_id"]
    token = ina["Authorization"].removeprefix("Bearer ")
    begun = time.monotonic()
    found = await asyncio.gather(*(status_of(platform, probe, token, session) for _ in range(24)))
    statuses = [status for status, _ in found]
    assert 10 <= statuses.count(101) <= 10 + (time.monotonic() - begun)
    refused = next(response for status, response in found if status == 429)
    assert b"upgrades_per_identity" in refused.body
    assert refused.headers["retry-after"] == "1"
    calls = await ask_at_once(platform, ina, "GET", "agents", 60)
    assert [answer.status_code for answer in calls].count(429) > 5
    # Somebody else is none the worse.
    assert http.get("agents", headers=bearer(issuer, "ivo")).status_code == 200


def test_an_address_that_sends_bad_tokens_is_not_looked_at_for_a_while(
    http: httpx2.Client, issuer: DevelopmentIssuer, platform: Platform
) -> None:
    bad = {"Authorization": "Bearer a.b.c"}
    # There is room again after three seconds, for anybody.
    found = [http.get("agents", headers=bad).status_code for _ in range(5)]
    assert found == [401] * 3 + [429] * 2
    good = bearer(issuer, "uwe")
    refused = http.get("agents", headers=good)
    assert refused.status_code == 429
    assert "failures_per_address" in refused.json()["error"]["message"]
    time.sleep(int(refused.headers["retry-after"]))
    assert http.get("agents", headers=good).status_code == 200
    # What is refused at the door is recorded, too: once a second.
    ada = bearer(issuer, "ada", roles=["admin"])
    entries = http.get(
        f"{http.base_url.scheme}://{http.base_url.netloc.decode()}/api/audit", headers=ada
    ).json()
    assert [e["address"] for e in entries["data"] if e["status"] == 429][:1] == ["127.0.0.1"]
