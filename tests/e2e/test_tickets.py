"""Tickets and origins on the whole platform: who gets in by them, and where they never show."""

import asyncio
import base64
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.support.platform import Platform, ask
from trunkline.auth.issuer import DEFAULT_AUDIENCE, ISSUER, DevelopmentIssuer

APP = "https://app.example.com"


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"TRUNKLINE_GATEWAY_ALLOWED_ORIGINS": f"same-origin,{APP}"}


@pytest.fixture(scope="module")
def http(platform: Platform, token: str, probe: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(
        base_url=f"{platform.endpoint}/agents/{probe}/endpoint/",
        headers={"Authorization": f"Bearer {token}"},
        params={"api-version": "v1"},
        trust_env=False,
    ) as client:
        yield client


def new_ticket(http: httpx2.Client, **body: Any) -> dict[str, Any]:
    answer = http.post("tickets", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return dict(answer.json())


def browser(
    platform: Platform, agent: str, query: str = "", origin: str | None = None, **options: Any
) -> connect:
    return connect(
        platform.websocket_url(agent, query=query),
        proxy=None, open_timeout=60, origin=origin, **options,  # type: ignore[arg-type]
    )  # fmt: skip


async def status_of(connecting: connect) -> int:
    try:
        async with connecting:
            return 101
    except InvalidStatus as error:
        return error.response.status_code


async def session_of(websocket: ClientConnection) -> str:
    assert websocket.response is not None
    return websocket.response.headers["x-agent-session-id"]


async def test_a_ticket_lets_one_connection_in(
    http: httpx2.Client, platform: Platform, probe: str
) -> None:
    made = new_ticket(http, agent_session_id="by-ticket", origin=APP)
    assert made["agent_session_id"] == "by-ticket"
    query = f"&ticket={made['ticket']}&mine=1"
    async with browser(platform, probe, query, APP) as websocket:
        assert await session_of(websocket) == "by-ticket"
        assert websocket.subprotocol is None
    assert await status_of(browser(platform, probe, query, APP)) == 401
    # The session is its maker's like any other.
    assert http.get("sessions/by-ticket").status_code == 200


async def test_a_ticket_among_the_subprotocols_is_never_echoed(
    http: httpx2.Client, platform: Platform, probe: str
) -> None:
    made = new_ticket(http)
    offered: Any = [f"trunkline.ticket.{made['ticket']}", "trunkline.ticket"]
    async with browser(platform, probe, origin=APP, subprotocols=offered) as websocket:
        assert websocket.subprotocol == "trunkline.ticket"
        assert await session_of(websocket) == made["agent_session_id"]
        assert made["ticket"] not in str(websocket.response)


async def test_a_token_as_agentcores_clients_send_it(
    platform: Platform, probe: str, token: str
) -> None:
    encoded = base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()
    sentinel = "base64UrlBearerAuthorization"
    offered: Any = [f"{sentinel}.{encoded}", sentinel]
    async with browser(platform, probe, subprotocols=offered) as websocket:
        assert websocket.subprotocol == sentinel
        assert encoded not in str(websocket.response)


async def test_of_many_who_use_a_ticket_at_once_one_gets_in(
    http: httpx2.Client, platform: Platform, probe: str
) -> None:
    query = f"&ticket={new_ticket(http)['ticket']}"
    found = await asyncio.gather(*(status_of(browser(platform, probe, query)) for _ in range(12)))
    assert sorted(found) == [101] + [401] * 11


@pytest.mark.parametrize(
    ("body", "query", "origin"),
    [
        ({"agent_session_id": "one"}, "&agent_session_id=two", None),
        ({"origin": APP}, "", None),
        ({"origin": "https://other.example"}, "", APP),
    ],
)
async def test_a_ticket_for_something_else_is_refused_and_gone(
    http: httpx2.Client, platform: Platform, probe: str, body: Any, query: str, origin: str | None
) -> None:
    made = new_ticket(http, **body)
    ticket = f"&ticket={made['ticket']}"
    assert await status_of(browser(platform, probe, ticket + query, origin)) == 401
    right = body.get("origin", APP)
    if right == APP:
        assert await status_of(browser(platform, probe, ticket, right)) == 401


async def test_a_ticket_for_another_agent(
    http: httpx2.Client, platform: Platform, probe: str
) -> None:
    ticket = new_ticket(http)["ticket"]
    url = platform.websocket_url(probe, query=f"&ticket={ticket}").replace(probe, "another")
    assert await status_of(connect(url, proxy=None)) == 401


async def test_a_ticket_is_good_for_a_session_of_its_makers_alone(
    http: httpx2.Client, platform: Platform, probe: str
) -> None:
    async with platform.connect(probe, "annas", token=platform.token("--user", "anna")):
        made = new_ticket(http, agent_session_id="annas")
        query = f"&ticket={made['ticket']}"
        assert await status_of(browser(platform, probe, query)) == 403


async def test_made_up_tickets(platform: Platform, probe: str) -> None:
    for ticket in ("", "tlt_", "tlt_" + "A" * 43, "x" * 5000, "%00", "'--"):
        assert await status_of(browser(platform, probe, f"&ticket={ticket}")) == 401


def test_what_a_ticket_may_be_asked_for(http: httpx2.Client, platform: Platform) -> None:
    for body in (
        {"origin": "null"}, {"origin": "*"}, {"origin": f"{APP}/"}, {"origin": 1},
        {"expires_in_s": 61}, {"expires_in_s": 0}, {"expires_in_s": "1"},
        {"agent_session_id": "a b"},
    ):  # fmt: skip
        assert http.post("tickets", json=body).status_code == 400
    # It doesn't outlive what it was made with.
    short = {"Authorization": f"Bearer {platform.token('--expires-in', '5')}"}
    made, until = new_ticket(http), http.post("tickets", headers=short).json()["expires_at"]
    assert until < made["expires_at"] - 30
    absent = f"{platform.endpoint}/agents/absent/endpoint/tickets"
    assert http.post(absent).status_code == 404


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101), (APP, 101), ("https://evil.example", 403), ("null", 403),
        ("http://localhost:3000", 403), ("https://app.example.com.evil.example", 403),
    ],
)  # fmt: skip
async def test_the_origin_counts_whatever_the_token_says(
    platform: Platform, probe: str, token: str, origin: str | None, status: int
) -> None:
    bearer = {"Authorization": f"Bearer {token}"}
    found = await status_of(
        browser(platform, probe, "&agent_session_id=o", origin, additional_headers=bearer)
    )
    assert found == status


async def test_the_own_origin_may(platform: Platform, probe: str, token: str) -> None:
    bearer = {"Authorization": f"Bearer {token}"}
    own = browser(platform, probe, "&agent_session_id=o", platform.url, additional_headers=bearer)
    assert await status_of(own) == 101


async def test_no_token_and_no_ticket_shows_in_a_log(
    http: httpx2.Client, platform: Platform, probe: str, token: str
) -> None:
    made = new_ticket(http, agent_session_id="quiet")
    async with browser(platform, probe, f"&ticket={made['ticket']}") as websocket:
        facts = await ask(websocket, "facts")
    assert made["ticket"] not in str(facts)
    await status_of(browser(platform, probe, f"&ticket={made['ticket']}"))
    again = new_ticket(http)["ticket"]
    answer = httpx2.get(f"{platform.url}/nothing/here?ticket={again}", trust_env=False)
    assert again not in answer.text
    texts = [platform.log(), platform.events(probe, "quiet")]
    texts += [
        path.read_text(errors="replace")
        for path in (platform.state_dir / "sessions").rglob("logs/*")
        if path.is_file()
    ]
    for text in texts:
        for secret in (made["ticket"], again, token, token.split(".")[2]):
            assert secret not in text
    database = b"".join(path.read_bytes() for path in platform.state_dir.glob("trunkline.db*"))
    assert again.encode() not in database


@pytest.mark.parametrize("ends_at", [253_402_300_800, 10**12, 2**52])
def test_a_token_that_ends_in_no_year_gets_a_ticket_of_a_minute(
    http: httpx2.Client, platform: Platform, ends_at: int
) -> None:
    issuer = DevelopmentIssuer.open(platform.state_dir)
    token = jwt.encode(
        {"iss": ISSUER, "aud": DEFAULT_AUDIENCE, "sub": "far", "exp": ends_at},
        issuer._key, "ES256", headers={"kid": issuer.public_jwk["kid"]},
    )  # fmt: skip
    answer = http.post(
        "tickets",
        headers={"authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 201, answer.text
    assert 0 < answer.json()["expires_at"] - time.time() <= 60
