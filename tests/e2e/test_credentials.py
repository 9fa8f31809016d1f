"""API keys, revocations, and what the end of a token means for a connection that is open."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.platform import Platform, ask
from trunkline.auth.issuer import ISSUER, DevelopmentIssuer

API_KEY_ISSUER = "urn:trunkline:api-key"


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {
        "TRUNKLINE_GATEWAY_ON_EXPIRY": "refresh",
        "TRUNKLINE_GATEWAY_CREDENTIAL_CHECK_S": "0.1",
    }


@pytest.fixture(scope="module")
def admin(platform: Platform) -> Iterator[httpx2.Client]:
    token = platform.token("--user", "ada", "--role", "admin")
    with httpx2.Client(
        base_url=platform.url,
        headers={"Authorization": f"Bearer {token}"},
        params={"api-version": "v1"},
        trust_env=False,
    ) as client:
        yield client


def new_key(admin: httpx2.Client, **body: Any) -> dict[str, Any]:
    given = {"name": "nightly", "roles": ["invoker"]} | body
    answer = admin.post("/api/projects/default/api-keys", json=given)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def closed(websocket: Any) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        await asyncio.wait_for(websocket.recv(), 30)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def status_of(platform: Platform, probe: str, token: str, session: str = "k") -> int:
    try:
        async with platform.connect(probe, session, token=token):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


async def test_an_api_key_lets_a_machine_in_until_it_is_revoked(
    platform: Platform, admin: httpx2.Client, probe: str
) -> None:
    made = new_key(admin, roles=[f"invoker@default/{probe}"], expires_in_days=1)
    key = made["key"]
    assert made["roles"] == [f"invoker@default/{probe}"]
    listed = admin.get("/api/projects/default/api-keys")
    assert made["id"] in [each["id"] for each in listed.json()["data"]]
    assert key not in listed.text
    bearer = {"Authorization": f"Bearer {key}"}
    agents = f"{platform.endpoint}/agents"
    query = {"api-version": "v1"}
    assert httpx2.get(agents, params=query, headers=bearer, trust_env=False).status_code == 403
    async with platform.connect(probe, "keyed", token=key) as websocket:
        await ask(websocket, "facts")
        gone = admin.delete(f"/api/projects/default/api-keys/{made['id']}")
        assert gone.status_code == 204
        assert await closed(websocket) == (1008, "what you came in with was revoked")
    assert await status_of(platform, probe, key) == 401
    assert key not in platform.log()
    database = b"".join(path.read_bytes() for path in platform.state_dir.glob("trunkline.db*"))
    assert key.encode() not in database


async def test_keys_that_are_not(platform: Platform, admin: httpx2.Client, probe: str) -> None:
    key = new_key(admin)["key"]
    other = new_key(admin)["key"]
    mixed = key[:21] + other[21:]
    for wrong in (key[:-1], f"{key}A", mixed, key.upper(), "tlk_", f"tlk_{'0' * 16}_{'A' * 43}"):
        assert await status_of(platform, probe, wrong) == 401, wrong
    short = new_key(admin, expires_in_days=0.00001)["key"]
    await asyncio.sleep(1)
    assert await status_of(platform, probe, short) == 401


def test_nobody_grants_what_they_may_not_do(
    platform: Platform, admin: httpx2.Client, probe: str
) -> None:
    keys = "/api/projects/default/api-keys"
    for roles, status in (
        (["impersonator"], 403), (["admin", "impersonator"], 403), (["root"], 400), ([], 400),
        (["admin@other"], 400), ("admin", 400), ([7], 400), (["admin"], 201),
        (["deployer@*/x"], 201),
    ):  # fmt: skip
        answer = admin.post(keys, json={"name": "n", "roles": roles})
        assert answer.status_code == status, (roles, answer.text)
    for body in (
        {"roles": ["invoker"]}, {"name": "", "roles": ["invoker"]},
        {"name": "a\nb", "roles": ["invoker"]},
        {"name": "n", "roles": ["invoker"], "expires_in_days": 367},
        {"name": "n", "roles": ["invoker"], "expires_in_days": True},
    ):  # fmt: skip
        assert admin.post(keys, json=body).status_code == 400
    # An admin of one agent isn't one of the project.
    partial = platform.token("--role", f"admin@default/{probe}")
    bearer = {"Authorization": f"Bearer {partial}"}
    answer = admin.post(keys, json={"name": "n", "roles": ["invoker"]}, headers=bearer)
    assert answer.status_code == 403
    scoped = platform.token("--role", "admin@default")
    bearer = {"Authorization": f"Bearer {scoped}"}
    assert admin.get("/api/revocations", headers=bearer).status_code == 403


async def test_what_is_revoked_is_cut_off_within_seconds_and_what_is_newer_is_good(
    platform: Platform, admin: httpx2.Client, probe: str
) -> None:
    old = platform.token("--user", "eve")
    bystander = platform.token("--user", "mallory")
    made = httpx2.post(
        f"{platform.endpoint}/agents/{probe}/endpoint/tickets", params={"api-version": "v1"},
        headers={"Authorization": f"Bearer {old}"}, json={"agent_session_id": "eves"},
        trust_env=False,
    )  # fmt: skip
    by_ticket = platform.websocket_url(probe, query=f"&ticket={made.json()['ticket']}")
    async with (
        platform.connect(probe, "eves", token=old) as websocket,
        platform.connect(probe, "other", token=bystander) as unharmed,
    ):
        body = {"issuer": ISSUER, "subject": "eve"}
        started = asyncio.get_running_loop().time()
        assert admin.post("/api/revocations", json=body).status_code == 201
        assert await closed(websocket) == (1008, "what you came in with was revoked")
        assert asyncio.get_running_loop().time() - started < 10
        assert await ask(unharmed, "facts")
    assert await status_of(platform, probe, old, "eves") == 401
    # A ticket made before is worth no more than what it was made with.
    with pytest.raises(InvalidStatus) as refused:
        await connect(by_ticket, proxy=None)
    assert refused.value.response.status_code == 401
    assert b"revoked" in refused.value.response.body
    listed = admin.get("/api/revocations").json()["data"]
    assert {"issuer": ISSUER, "subject": "eve"}.items() <= listed[0].items()
    await asyncio.sleep(1.1)
    assert await status_of(platform, probe, platform.token("--user", "eve"), "eves") == 101


async def test_a_connection_ends_with_its_token_unless_a_newer_one_is_shown(
    platform: Platform, probe: str
) -> None:
    issuer = DevelopmentIssuer.open(platform.state_dir)
    newer, evas = issuer.issue("tina"), issuer.issue("eva")
    for session in ("kept", "left"):
        # However long an agent takes to start, the short token's time is for what comes after.
        async with platform.connect(probe, session, token=newer) as websocket:
            await ask(websocket, "facts")
    short = issuer.issue("tina", 10)
    renew = f"{platform.endpoint}/agents/{probe}/endpoint/tickets:renew"
    async with (
        platform.connect(probe, "kept", token=short) as kept,
        platform.connect(probe, "left", token=short) as left,
    ):
        for user, session in ((newer, "kept"), (evas, "left")):
            answer = httpx2.post(
                renew,
                params={"api-version": "v1"},
                json={"agent_session_id": session},
                headers={"Authorization": f"Bearer {user}"},
                trust_env=False,
            )
            assert answer.status_code == 200, answer.text
        # Somebody else's newer token is none of the connection's.
        assert await closed(left) == (1008, "the token has expired (on_expiry)")
        assert await ask(kept, "facts")


def listener(token: str) -> httpx2.AsyncClient:
    bearer = {"Authorization": f"Bearer {token}"}
    return httpx2.AsyncClient(headers=bearer, timeout=60, trust_env=False)


def invocation(platform: Platform, probe: str, session: str, hold: str) -> str:
    place = f"{platform.endpoint}/agents/{probe}/endpoint/protocols/invocations"
    return f"{place}?api-version=v1&agent_session_id={session}&hold={hold}"


async def until_cut(lines: AsyncIterator[str]) -> None:
    """Read a stream until it ends short of its end."""
    with pytest.raises(httpx2.RemoteProtocolError):
        async for _ in lines:
            pass


async def test_who_is_revoked_hears_no_more_of_any_stream_and_gets_no_answer(
    platform: Platform, admin: httpx2.Client, probe: str
) -> None:
    olga, pia = (platform.token("--user", name) for name in ("olga", "pia"))
    log = f"{platform.endpoint}/agents/{probe}/sessions/olgas:logstream?api-version=v1"
    async with listener(olga) as hers, listener(pia) as other:
        async with (
            hers.stream("POST", invocation(platform, probe, "olgas", "stream")) as events,
            hers.stream("GET", log) as printed,
            other.stream("POST", invocation(platform, probe, "pias", "stream")) as unharmed,
        ):
            streams = [answer.aiter_lines() for answer in (events, printed, unharmed)]
            assert [await anext(lines) for lines in streams] == [
                "data: begun", "event: log", "data: begun",
            ]  # fmt: skip
            waiting = asyncio.create_task(
                hers.post(invocation(platform, probe, "olgas", "answer"), content=b"{}")
            )
            body, has_sent = BodyInPieces(), asyncio.Event()
            uploading = asyncio.create_task(
                hers.put(
                    f"{platform.endpoint}/agents/{probe}/endpoint/sessions/olgas/files/content",
                    params={"api-version": "v1", "path": "late"},
                    content=body.pieces(has_sent),
                )
            )
            await has_sent.wait()
            revoked = {"issuer": ISSUER, "subject": "olga"}
            assert admin.post("/api/revocations", json=revoked).status_code == 201
            await until_cut(streams[0])
            await until_cut(streams[1])
            answer = await waiting
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
            assert "revoked" in answer.json()["error"]["message"]
            body.may_go_on.set()
            assert (await uploading).status_code == 401
            # Nothing was heard but silence, and the stream is still there.
            rest = asyncio.ensure_future(anext(streams[2]))
            assert (await asyncio.wait_for(rest, 5)) == ""
            rest = asyncio.ensure_future(anext(streams[2]))
            assert not (await asyncio.wait({rest}, timeout=0.5))[0]
            rest.cancel()
    assert olga not in platform.log()


class BodyInPieces:
    """A request's body whose second half comes when it is told to."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()

    async def pieces(self, has_sent: asyncio.Event) -> AsyncIterator[bytes]:
        yield b"first half"
        has_sent.set()
        await self.may_go_on.wait()
        yield b"second half"


async def test_a_stream_ends_with_its_token_unless_a_newer_one_is_shown(
    platform: Platform, probe: str
) -> None:
    issuer = DevelopmentIssuer.open(platform.state_dir)
    newer = issuer.issue("uma")
    for session in ("heard", "unheard"):
        async with platform.connect(probe, session, token=newer) as websocket:
            await ask(websocket, "facts")
    async with listener(issuer.issue("uma", 10)) as http:
        async with (
            http.stream("POST", invocation(platform, probe, "heard", "stream")) as kept,
            http.stream("POST", invocation(platform, probe, "unheard", "stream")) as left,
        ):
            lines, others = kept.aiter_lines(), left.aiter_lines()
            assert [await anext(lines), await anext(others)] == ["data: begun", "data: begun"]
            answer = httpx2.post(
                f"{platform.endpoint}/agents/{probe}/endpoint/tickets:renew",
                params={"api-version": "v1"},
                json={"agent_session_id": "heard"},
                headers={"Authorization": f"Bearer {newer}"},
                trust_env=False,
            )
            assert answer.status_code == 200, answer.text
            await until_cut(others)
            assert await anext(lines) == ""
            silent = asyncio.ensure_future(anext(lines))
            assert not (await asyncio.wait({silent}, timeout=1))[0]
            silent.cancel()


#: Read by every Python that a platform starts: its first look at who was revoked takes as long as
#: the test wants it to.
_SLOW_LOOK = """
import importlib, os, pathlib, sys, time
def patch():
    module, name = os.environ["SLOW_LOOK"].split(":")
    kind = getattr(importlib.import_module(module), name)
    real, folder = kind.list_revocations, pathlib.Path(os.environ["SLOW_LOOK_IN"])
    async def slow(self):
        import asyncio
        (folder / "asked").touch()
        while not (folder / "go").exists():
            await asyncio.sleep(0.01)
        return await real(self)
    kind.list_revocations = slow
if "trunkline.platform" in " ".join(sys.orig_argv):
    patch()
"""


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("trunkline.store.sql.credentials:SqlCredentials", ()),
        ("trunkline.platform.workers.remote:RemoteStore", ("--workers", "2")),
    ],
)
def test_nobody_is_let_in_before_it_is_known_who_was_revoked(
    tmp_path: Path, kind: str, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_SLOW_LOOK)
    platform = Platform(
        tmp_path / "state", *arguments,
        PYTHONPATH=str(tmp_path), SLOW_LOOK=kind, SLOW_LOOK_IN=str(tmp_path),
    )  # fmt: skip

    def answered() -> int:
        platform.start()
        return httpx2.get(f"{platform.url}/healthz", timeout=60, trust_env=False).status_code

    with ThreadPoolExecutor(1) as threads:
        answering = threads.submit(answered)
        try:
            while not (tmp_path / "asked").exists():
                assert not answering.done(), answering.result()
                time.sleep(0.01)
            with pytest.raises(TimeoutError):
                answering.result(timeout=0.7)
            (tmp_path / "go").touch()
            assert answering.result() == 200
        finally:
            (tmp_path / "go").touch()
            answering.exception()
            platform.stop()
