"""An upgrade comes to the same whether it is decided at once or somebody is waited for first."""

import asyncio
import logging
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest

from tests.integration.gateway.test_refusals import bad_authorization
from tests.support.gateway import NEW_PATH, Gateway, accept_upgrade, raw_agent, running_gateway
from tests.unit.gateway.answers import parse_answer
from trunkline.auth.admission import Admission
from trunkline.auth.caller import Caller
from trunkline.auth.grants import Grants
from trunkline.auth.identity import Identity
from trunkline.auth.issuer import ALGORITHM, DEFAULT_AUDIENCE, ISSUER
from trunkline.auth.rates import RateSettings
from trunkline.auth.verify import Later
from trunkline.gateway.audit import AuditTrail
from trunkline.protocol.ids import AgentName, ProjectName, SessionId, SessionKey

NAMED = f"{NEW_PATH}&agent_session_id=mine&colour=red"
APP = "https://app.example.com"
PROXIED = "203.0.113.9"
TESTER = Caller(identity=Identity(ISSUER, "tester"), grants=Grants.parse(["invoker"]))


@dataclass
class Case:
    """One head, and what it is to come to.

    Attributes:
        status: The answer's status.
        code: Its error's code, if it has one.
        path: The target.
        token: Makes what ``Authorization`` says; None for nothing.
        lines: Further lines of the head.
        changes: What is replaced in it.
        before: What is done to the gateway first.
    """

    status: int
    code: str = ""
    path: str = NAMED
    token: Callable[[Gateway], str | None] = lambda gateway: f"Bearer {gateway.token()}"
    lines: list[str] = field(default_factory=list)
    changes: tuple[str, str] = ("", "")
    before: Callable[[Gateway], Awaitable[str | None]] | None = None


def roles(*names: str) -> Callable[[Gateway], str]:
    return lambda gateway: f"Bearer {gateway.issuer.issue('somebody', roles=names)}"


def bad(kind: str) -> Case:
    return Case(401, "unauthenticated", token=lambda gateway: bad_authorization(gateway, kind))


def of_another_key(gateway: Gateway) -> str:
    claims = {"iss": ISSUER, "sub": "tester", "aud": DEFAULT_AUDIENCE, "exp": int(time.time()) + 60}
    token = jwt.encode(claims, gateway.issuer._key, ALGORITHM, headers={"kid": "another"})
    return f"Bearer {token}"


def in_protocol(gateway: Gateway) -> str:
    token = urlsafe_b64encode(gateway.token().encode()).rstrip(b"=").decode()
    return f"Sec-WebSocket-Protocol: chat, base64UrlBearerAuthorization.{token}"


async def revoke(gateway: Gateway) -> None:
    revoked = [(Identity(ISSUER, "tester"), time.time() + 60)]
    assert gateway.services.admission.revocations.replace(revoked)


async def drain(gateway: Gateway) -> None:
    gateway.services.draining.set()


def ticket_for(agent: str, origin: str | None = None) -> Callable[[Gateway], Awaitable[str]]:
    async def issue(gateway: Gateway) -> str:
        key = SessionKey(ProjectName("default"), AgentName(agent), SessionId("mine"))
        ticket, _ = await gateway.services.tickets.issue(TESTER, key, origin=origin, lifetime_s=60)
        return ticket

    return issue


async def used_up(gateway: Gateway) -> None:
    rate = gateway.services.rates.failures_by_address
    for _ in range(100):
        rate.count(PROXIED)


async def asked_often(gateway: Gateway) -> None:
    for _ in range(40):
        gateway.services.rates.upgrades_by_address.take(PROXIED)


async def is_busy(gateway: Gateway) -> None:
    for _ in range(20):
        gateway.services.rates.upgrades_by_identity.take(TESTER.identity.owner)


def nobody(_: Gateway) -> None:
    return None


CASES = {
    "known": Case(101),
    "unnamed": Case(101, path=NEW_PATH),
    "page": Case(101, lines=[f"Origin: {APP}"]),
    "for-another": Case(101, token=roles("invoker", "impersonator"),
                        lines=["x-ms-user-identity: u1"]),
    "ticket": Case(101, path=NEW_PATH, token=nobody, before=ticket_for("echo")),
    "path": Case(404, "not_found", path="/api/else"),
    "agent": Case(404, "agent_not_found", path=NAMED.replace("echo", "nope")),
    "project": Case(404, "not_found", path=NAMED.replace("default", "nope")),
    "session": Case(400, "invalid_request", path=f"{NEW_PATH}&agent_session_id=a/b"),
    "absent": bad("none"),
    "scheme": bad("basic"),
    "garbage": bad("garbage"),
    "expired": bad("expired"),
    "audience": bad("wrong audience"),
    "early": bad("not yet valid"),
    "unsigned": bad("alg none"),
    "tampered": bad("tampered"),
    "key": Case(401, "unauthenticated", token=of_another_key),
    "revoked": Case(401, "unauthenticated", before=revoke),
    "role": Case(403, "forbidden", token=roles("reader")),
    "elsewhere": Case(403, "forbidden", token=roles("invoker@other")),
    "not-for-others": Case(403, "forbidden", token=roles("invoker"),
                           lines=["x-ms-user-identity: u1"]),
    "two-users": Case(400, "invalid_request", token=roles("invoker", "impersonator"),
                      lines=["x-ms-user-identity: u1", "x-session-isolation-key: u2"]),
    "origin": Case(403, "origin_not_allowed", lines=["Origin: https://evil.example"]),
    "two-tokens": Case(400, "invalid_request", path=f"{NAMED}&ticket=tlt_x"),
    "protocol": Case(401, "unauthenticated", token=nobody,
                     lines=["Sec-WebSocket-Protocol: base64UrlBearerAuthorization.!"]),
    "no-ticket": Case(401, "unauthenticated", path=f"{NAMED}&ticket=tlt_made-up", token=nobody),
    "others-ticket": Case(401, "unauthenticated", path=NEW_PATH, token=nobody,
                          before=ticket_for("other")),
    "other-session": Case(401, "unauthenticated", path=f"{NEW_PATH}&agent_session_id=else",
                          token=nobody, before=ticket_for("echo")),
    "other-page": Case(401, "unauthenticated", path=NEW_PATH, token=nobody,
                       before=ticket_for("echo", origin=APP)),
    "ticket-for-another": Case(400, "invalid_request", path=f"{NEW_PATH}&ticket=tlt_x",
                               token=nobody, lines=["x-ms-user-identity: u1"]),
    "version": Case(426, "upgrade_required",
                    changes=("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8")),
    "handshake": Case(400, "invalid_request", changes=("dGhlIHNhbXBsZSBub25jZQ==", "short")),
    "failures": Case(429, "rate_limited", before=used_up),
    "address": Case(429, "rate_limited", before=asked_often),
    "identity": Case(429, "rate_limited", before=is_busy),
    "draining": Case(503, "unavailable", before=drain),
}  # fmt: skip


async def outcome(gateway: Gateway, case: Case, caplog: pytest.LogCaptureFixture) -> Any:
    """Return all that comes of a head: to its client, its agent, and whatever counts."""
    ticket = None if case.before is None else await case.before(gateway)
    path = f"{case.path}&ticket={ticket}" if ticket else case.path
    head = gateway.upgrade_head(path, f"X-Forwarded-For: {PROXIED}", *case.lines).decode()
    mine = head.partition("Authorization: ")[2].partition("\r\n")[0]
    shown = case.token(gateway)
    head = head.replace(
        f"Authorization: {mine}\r\n", f"Authorization: {shown}\r\n" if shown else ""
    ).replace(*case.changes)
    services, sessions = gateway.services, gateway.sessions
    sessions.closed.clear()
    caplog.clear()
    reader, writer = await gateway.open()
    writer.write(head.encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    status = int(answer.split(b" ")[1])
    if status == 101:
        counted = [dict(t._counts) for t in _tallies(gateway)]
        writer.close()
        await sessions.closed.wait()
    else:
        counted = []
        answer += await reader.read()
        writer.close()
    if sessions.held:
        await sessions.all_returned.wait()
    metrics = [
        sample
        for each in (services.metrics.upgrades, services.metrics.refusals)
        for metric in each.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    ]
    rates = services.rates
    heard = parse_answer(answer) if status != 101 else None
    return {
        "status": status,
        "error": heard and heard.error,
        "headers": heard and {k: v for k, v in heard.headers.items() if k != "x-request-id"},
        "counted": [len(each) for each in counted],
        "left": [len(tally) for tally in _tallies(gateway)],
        "passes": len(services.passes),
        "metrics": [(sample.name, sample.labels, sample.value) for sample in metrics],
        "rates": [
            {key: left for key, (left, _) in rate._left.items()}
            for rate in (
                rates.failures_by_address, rates.upgrades_by_address, rates.upgrades_by_identity,
            )
        ],
        "asked": [
            (None if case.path == NEW_PATH and not ticket else key, who.identity, who.acting_for)
            for key, who, _ in sessions.asked
        ],
        "log": [
            record.msg % (*record.args[:3], "", *record.args[4:5], "")
            for record in caplog.records
            if isinstance(record.args, tuple) and "upgrade refused" in record.msg
        ],
    }  # fmt: skip


def _tallies(gateway: Gateway) -> list[Any]:
    limits = gateway.services.limits
    return [limits.addresses, limits.identities, limits.sessions]


async def run(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> tuple[Any, list[Any], int]:
    """Return what a head comes to, its entries in the audit log, and how often it came at once."""
    entries: list[Any] = []

    def note(_: AuditTrail, action: str, status: int, **said: Any) -> None:
        caller, place = said["caller"], said["place"]
        who = caller and (caller.identity, caller.acting_for, caller.grants)
        where = place[:2] if case.path == NEW_PATH else place
        entries.append((action, status, where, who, said["address"], bool(said["request_id"])))

    monkeypatch.setattr(AuditTrail, "add", note)

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_upgrade(reader, writer)
        await reader.read()

    rates = RateSettings(
        upgrades_per_address=4, upgrades_per_identity=2, failures_per_address=5
    )  # fmt: skip
    async with (
        raw_agent(agent) as address,
        running_gateway(
            address, rates=rates, trusted_proxies=("127.0.0.1/32",), allowed_origins=(APP,)
        ) as gateway,
    ):
        for rate in vars(gateway.services.rates).values():
            monkeypatch.setattr(rate, "_clock", lambda: 0.0)
        found = await outcome(gateway, case, caplog)
        return found, entries, gateway.sessions.at_once


@pytest.mark.parametrize("name", CASES)
async def test_a_head_comes_to_the_same_both_ways(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO)
    case = CASES[name]
    found, entries, at_once = await run(case, monkeypatch, caplog)
    assert (found["status"], (found["error"] or {}).get("code", "")) == (case.status, case.code)
    assert [status for _, status, *_ in entries] == [case.status]
    # What is known, named and lets itself be decided asks its agent in the callback.
    assert at_once == (name in {"known", "page", "for-another"})
    look = Admission.look
    waits = 0

    def wait_first(self: Admission, authorization: str | None) -> Caller | Later:
        async def tell() -> Caller:
            nonlocal waits
            waits += 1
            await asyncio.sleep(0)
            told = look(self, authorization)
            return told if isinstance(told, Caller) else await told()

        return tell

    monkeypatch.setattr(Admission, "look", wait_first)
    later, entries_later, at_once = await run(case, monkeypatch, caplog)
    assert (later, entries_later) == (found, entries)
    assert at_once == 0
    # Nobody is waited for on behalf of what is refused before it matters who it is.
    without = {"path", "origin", "two-tokens", "protocol", "failures", "address", "draining"}
    assert waits == (not ("ticket" in name or name.startswith("other-") or name in without))
