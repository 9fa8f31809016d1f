"""What stands before every HTTP request: here, how often an address may ask."""

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from trunkline.auth.rates import Rates, RateSettings
from trunkline.gateway.addresses import TrustedProxies
from trunkline.gateway.routes import Projects
from trunkline.platform.guard import Guard
from trunkline.protocol.errors import TrunklineError


class Platform:
    """What a guard needs of one, and what it did."""

    def __init__(self, **rates: float) -> None:
        self.served: list[str] = []
        self.refused: list[TrunklineError] = []
        self.recorded: list[tuple[int, str]] = []
        self.failed: list[tuple[str, ...]] = []
        services: Any = SimpleNamespace(
            limits=SimpleNamespace(proxies=TrustedProxies(("192.0.2.1",))),
            projects=Projects(("default",)),
            rates=Rates(RateSettings(**rates)),
            answering=set(),
            audit=SimpleNamespace(add=self._record),
            count_refusal=self.refused.append,
            errors=SimpleNamespace(add=lambda *agent: self.failed.append(agent)),
        )
        self._guard = Guard(self._serve, services=services)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.served.append(Request(scope).url.path)
        await PlainTextResponse("here")(scope, receive, send)

    def _record(self, action: str, status: int, *, address: str, **_: Any) -> None:
        self.recorded.append((status, address))

    def client(self, address: str) -> TestClient:
        return TestClient(self._guard, client=(address, 1))


def test_an_address_that_asks_too_often_is_told_which_limit_and_when() -> None:
    platform = Platform(calls_per_address=0.5)
    eve = platform.client("198.51.100.7")
    # Ten seconds' worth may come at once.
    assert [eve.get("/api/x").status_code for _ in range(7)] == [200] * 5 + [429] * 2
    answer = eve.get("/api/x")
    assert answer.json()["error"]["code"] == "rate_limited"
    assert "calls_per_address" in answer.json()["error"]["message"]
    assert answer.headers["retry-after"] == "2"
    # What it has sent behind that isn't read.
    assert answer.headers["connection"] == "close"
    assert [error.limit for error in platform.refused] == ["calls_per_address"] * 3
    assert platform.recorded == [(429, "198.51.100.7")] * 3
    assert len(platform.served) == 5
    # What isn't the API's has no limit, and another address is none the worse.
    assert eve.get("/healthz").status_code == 200
    answer = platform.client("198.51.100.8").get("/api/x")
    assert (answer.status_code, answer.headers.get("connection")) == (200, None)


def test_behind_a_trusted_proxy_the_address_is_the_one_it_names() -> None:
    platform = Platform(calls_per_address=0.1)
    proxy, eve = platform.client("192.0.2.1"), platform.client("198.51.100.7")

    def ask(client: TestClient, named: str) -> int:
        return client.get("/api/x", headers={"x-forwarded-for": named}).status_code

    assert [ask(proxy, "203.0.113.1"), ask(proxy, "203.0.113.1")] == [200, 429]
    assert ask(proxy, "203.0.113.2") == 200
    # Nobody else has more by naming others.
    assert [ask(eve, f"203.0.113.{number}") for number in (3, 4)] == [200, 429]


def test_whom_a_proxy_names_in_a_line_of_its_own_counts_and_not_what_came_before_it() -> None:
    platform = Platform(calls_per_address=0.1)
    proxy = platform.client("192.0.2.1")

    def ask(made_up: str) -> int:
        # As HAProxy does it (`option forwardfor`): it leaves the client's own line as it is.
        lines = [("x-forwarded-for", made_up), ("x-forwarded-for", "203.0.113.1")]
        return proxy.get("/api/x", headers=lines).status_code

    assert [ask(f"198.51.100.{number}") for number in range(3)] == [200, 429, 429]
    assert {address for _, address in platform.recorded} == {"203.0.113.1"}


def test_a_bad_token_counts_and_too_many_are_not_looked_at() -> None:
    platform = Platform(failures_per_address=0.2)

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        platform.served.append("x")
        await PlainTextResponse("who?", 401)(scope, receive, send)

    platform._guard._app = refuse
    eve = platform.client("198.51.100.7")
    assert [eve.get("/api/x").status_code for _ in range(4)] == [401] * 2 + [429] * 2
    assert "failures_per_address" in eve.get("/api/x").json()["error"]["message"]
    assert len(platform.served) == 2


def test_what_failed_by_a_mistake_of_ours_is_recorded_too() -> None:
    platform = Platform()

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        scope["path_params"] = {"project": "default", "agent": "echo"}
        raise RuntimeError("half done")

    platform._guard._app = fail
    with pytest.raises(RuntimeError, match="half done"):
        platform.client("198.51.100.7").delete("/api/x")
    assert platform.recorded == [(500, "198.51.100.7")]
    assert platform.failed == [("default", "echo")]
