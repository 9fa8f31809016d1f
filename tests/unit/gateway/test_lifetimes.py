"""What is open ends when its caller is revoked or, if that counts, when the token ends."""

import asyncio
import contextlib
import datetime as dt
import time
from types import SimpleNamespace
from typing import Any

import pytest

from trunkline.auth.caller import Caller
from trunkline.auth.identity import Identity
from trunkline.auth.noted import Note
from trunkline.auth.revocations import Revocations
from trunkline.gateway.answering import Answering
from trunkline.gateway.lifetimes import Lifetimes
from trunkline.gateway.routes import Projects
from trunkline.protocol.errors import AuthenticationError
from trunkline.protocol.ids import AgentName, ProjectName, SessionId, SessionKey
from trunkline.store.records import RevocationRecord

EVE = Identity("https://login.example", "eve")
KEY = SessionKey(ProjectName("default"), AgentName("voice"), SessionId("s1"))


class Credentials:
    """The part of a store that is asked."""

    def __init__(self) -> None:
        self.revoked: list[RevocationRecord] = []
        self.renewals: dict[tuple[SessionKey, str], dt.datetime] = {}

    async def list_revocations(self) -> list[RevocationRecord]:
        return self.revoked

    async def find_renewal(self, key: SessionKey, owner: str) -> dt.datetime | None:
        return self.renewals.get((key, owner))

    async def forget_credentials(self, **_: Any) -> None:
        return None

    def revoke(self, who: Identity) -> None:
        self.revoked.append(
            RevocationRecord(
                issuer=who.issuer, subject=who.subject, revoked_at=dt.datetime.now(dt.UTC),
                revoked_by="admin",
            )
        )  # fmt: skip


class Request:
    """A request in a task of its own, as a server has it."""

    def __init__(self, caller: Caller | None, path_params: dict[str, str] | None = None) -> None:
        self.note = Note()
        self.note.caller = caller
        self.answering: Answering | None = None
        self.scope: dict[str, Any] = {"path_params": path_params or {}}
        self.outcome = ""
        self._may_end = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        self.answering = Answering(self.note, self.scope, Projects(("default",)))
        try:
            await self._work()
            self.outcome = "whole"
        except asyncio.CancelledError:
            if not self.answering.was_cut():
                raise
            self.outcome = "cut"

    async def _work(self) -> None:
        await self._may_end.wait()

    async def ended(self) -> str:
        await self.task
        return self.outcome

    async def finish(self) -> str:
        self._may_end.set()
        return await self.ended()


async def begun(caller: Caller | None, **path_params: str) -> Request:
    request = Request(caller, path_params)
    await asyncio.sleep(0)
    assert request.answering is not None
    request.answering.has_begun = True
    return request


def caller(expires_in_s: float = 60) -> Caller:
    now = time.time()
    return Caller(identity=EVE, issued_at=now - 60, expires_at=now + expires_in_s)


def lifetimes(credentials: Credentials, *requests: Request, on_expiry: str = "ignore") -> Lifetimes:
    services: Any = SimpleNamespace(
        settings=SimpleNamespace(on_expiry=on_expiry, credential_check_s=0.1),
        admission=SimpleNamespace(revocations=Revocations()),
        relayed=set(),
        answering={request.answering for request in requests},
    )
    store: Any = credentials
    return Lifetimes(services, store)


@pytest.fixture
def credentials() -> Credentials:
    return Credentials()


async def test_who_is_revoked_is_cut_off_and_nobody_else(credentials: Credentials) -> None:
    hers, others = await begun(caller()), await begun(Caller(identity=Identity("x", "bob")))
    nobodys = await begun(None)
    credentials.revoke(EVE)
    await lifetimes(credentials, hers, others, nobodys).look()
    assert await hers.ended() == "cut"
    assert hers.answering is not None
    assert isinstance(hers.answering.error, AuthenticationError)
    assert [await others.finish(), await nobodys.finish()] == ["whole", "whole"]


async def test_what_is_newer_than_the_revocation_goes_on(credentials: Credentials) -> None:
    credentials.revoke(EVE)
    newer = await begun(Caller(identity=EVE, issued_at=time.time() + 5))
    await lifetimes(credentials, newer).look()
    assert await newer.finish() == "whole"


async def test_a_cut_that_was_lost_is_made_again(credentials: Credentials) -> None:
    class Deaf(Request):
        async def _work(self) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                # Like what waits for something that it has cancelled itself.
                await super()._work()
            await super()._work()

    request = Deaf(caller())
    await asyncio.sleep(0)
    assert request.answering is not None
    request.answering.has_begun = True
    credentials.revoke(EVE)
    look = lifetimes(credentials, request)
    await look.look()
    await asyncio.sleep(0)
    assert not request.task.done()
    await look.look()
    assert await request.ended() == "cut"


@pytest.mark.parametrize(
    ("on_expiry", "outcome"), [("ignore", "whole"), ("close", "cut"), ("refresh", "cut")]
)
async def test_the_end_of_a_token_counts_if_the_setting_says_so(
    credentials: Credentials, on_expiry: str, outcome: str
) -> None:
    request = await begun(caller(-1), project="default", agent="voice", session="s1")
    await lifetimes(credentials, request, on_expiry=on_expiry).look()
    assert await request.finish() == outcome
    assert request.answering is not None
    limit = request.answering.error.limit if request.answering.error is not None else ""
    assert limit == ("on_expiry" if outcome == "cut" else "")


async def test_a_newer_token_for_its_session_keeps_a_request(credentials: Credentials) -> None:
    kept = await begun(caller(-1), project="default", agent="voice", session="s1")
    other = await begun(caller(-1), project="default", agent="voice", session="s2")
    ends_at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)
    credentials.renewals[KEY, EVE.owner] = ends_at
    await lifetimes(credentials, kept, other, on_expiry="refresh").look()
    assert kept.answering is not None
    assert kept.answering.expires_at == ends_at.timestamp()
    assert [await kept.finish(), await other.ended()] == ["whole", "cut"]
    again = await begun(caller(-1), project="default", agent="voice", session="s1")
    await lifetimes(credentials, again, on_expiry="close").look()
    assert await again.ended() == "cut"


async def test_what_only_the_platform_does_is_not_broken_off(credentials: Credentials) -> None:
    request = Request(caller())
    await asyncio.sleep(0)
    assert request.answering is not None
    coming = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await coming.wait()
        return {"type": "http.request", "body": b"the rest", "more_body": False}

    reading = asyncio.ensure_future(request.answering.receiving(receive)())
    await asyncio.sleep(0)
    credentials.revoke(EVE)
    await lifetimes(credentials, request).look()
    coming.set()
    with pytest.raises(AuthenticationError, match="revoked"):
        await reading
    assert await request.finish() == "whole"


async def test_what_an_agent_works_on_ends_before_it_is_answered(credentials: Credentials) -> None:
    request = Request(caller())
    await asyncio.sleep(0)
    request.note.is_passed_on = True
    credentials.revoke(EVE)
    await lifetimes(credentials, request).look()
    assert await request.ended() == "cut"


async def test_whoever_else_cancels_the_task_means_the_task(credentials: Credentials) -> None:
    request = await begun(caller())
    credentials.revoke(EVE)
    await lifetimes(credentials, request).look()
    request.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request.task
    assert request.outcome == ""


@pytest.mark.parametrize(
    "named",
    [{}, {"project": "default"}, {"project": "elsewhere", "agent": "voice", "session": "s1"},
     {"project": "default", "agent": "no agent", "session": "s1"},
     {"project": "default", "agent": "voice", "session": "a\0b"}],
)  # fmt: skip
async def test_what_names_no_session_is_about_none(named: dict[str, str]) -> None:
    request = await begun(None, **named)
    assert request.answering is not None
    assert request.answering.session is None
    await request.finish()
