"""Sessions that somebody has chosen for somebody else, that come again, and that are guessed."""

import asyncio
import os
import random
import re
import secrets
import string
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.support.platform import Platform, ask
from trunkline.aio.draws import DRAWN_BYTES
from trunkline.auth.identity import Identity
from trunkline.auth.pseudonym import Pseudonyms
from trunkline.gateway.openai_responses import new_id
from trunkline.gateway.requests import new_call_id
from trunkline.sessions.directory import new_session_id


class Person:
    """Somebody with a token of their own."""

    def __init__(self, platform: Platform, probe: str, name: str) -> None:
        self.name = name
        self.token = platform.token("--user", name)
        self._platform = platform
        self._probe = probe
        self.http = httpx2.Client(
            base_url=f"{platform.endpoint}/agents/{probe}/",
            headers={"Authorization": f"Bearer {self.token}"},
            params={"api-version": "v1"}, timeout=60, trust_env=False,
        )  # fmt: skip

    def connect(self, session: str) -> connect:
        return self._platform.connect(self._probe, session, token=self.token)

    async def status_of(self, session: str) -> int:
        try:
            async with self.connect(session):
                return 101
        except InvalidStatus as error:
            return error.response.status_code

    async def say(self, session: str, command: str) -> Any:
        async with self.connect(session) as websocket:
            return await ask(websocket, command)

    def ticket(self, session: str) -> str:
        answer = self.http.post("endpoint/tickets", json={"agent_session_id": session})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["ticket"])

    async def status_with(self, ticket: str, session: str) -> int:
        url = self._platform.websocket_url(self._probe, session, f"&ticket={ticket}")
        try:
            async with connect(url, proxy=None, open_timeout=60):
                return 101
        except InvalidStatus as error:
            return error.response.status_code

    def everything_about(
        self, session: str, *, without: frozenset[str] = frozenset()
    ) -> dict[str, httpx2.Response]:
        """Try whatever names a session."""
        one = f"endpoint/sessions/{session}"
        tries: dict[str, Callable[[], httpx2.Response]] = {
            "create": lambda: self.http.post(
                "endpoint/sessions", json={"agent_session_id": session}
            ),
            "show": lambda: self.http.get(one),
            "stop": lambda: self.http.post(f"{one}:stop"),
            "files": lambda: self.http.get(f"{one}/files"),
            "download": lambda: self.http.get(f"{one}/files/content", params={"path": "memory"}),
            "upload": lambda: self.http.put(
                f"{one}/files/content", params={"path": "memory"}, content=b"x"
            ),
            "connections": lambda: self.http.get(f"{one}/connections"),
            "log": lambda: self.http.get(
                f"sessions/{session}:logstream", params={"follow": "false"}
            ),
            "invoke": lambda: self.http.post(
                "endpoint/protocols/invocations", params={"agent_session_id": session}
            ),
            "respond": lambda: self.http.post(
                "endpoint/protocols/openai/responses", json={"session_id": session, "input": "x"}
            ),
            "delete": lambda: self.http.delete(one),
        }
        return {name: attempt() for name, attempt in tries.items() if name not in without}


@pytest.fixture(scope="module")
def victim(platform: Platform, probe: str) -> Iterator[Person]:
    person = Person(platform, probe, "victor")
    yield person
    person.http.close()


@pytest.fixture(scope="module")
def attacker(platform: Platform, probe: str) -> Iterator[Person]:
    person = Person(platform, probe, "mallory")
    yield person
    person.http.close()


def refused(tries: dict[str, httpx2.Response]) -> None:
    for name, answer in tries.items():
        code = answer.json()["error"]["code"]
        assert (answer.status_code, code) == (403, "session_not_accessible"), (name, answer.text)


async def test_an_id_that_was_chosen_for_somebody_is_theirs_once_they_use_it(
    victim: Person, attacker: Person
) -> None:
    # The attacker knows the id, and got a ticket for it while nobody had it yet.
    early = attacker.ticket("chosen")
    await victim.say("chosen", "remember what only the victim may know")
    assert await attacker.status_of("chosen") == 403
    assert await attacker.status_with(early, "chosen") == 403
    refused(attacker.everything_about("chosen"))
    assert await victim.say("chosen", "recall") == "what only the victim may know"


async def test_a_session_that_waits_for_somebody_does_not_take_them_in(
    victim: Person, attacker: Person
) -> None:
    await attacker.say("trap", "remember the trap")
    # Whoever is sent there is told, and says nothing to it.
    assert await victim.status_of("trap") == 403
    refused(victim.everything_about("trap"))
    assert await attacker.say("trap", "recall") == "the trap"
    listed = victim.http.get("endpoint/sessions").json()["data"]
    assert "trap" not in [each["agent_session_id"] for each in listed]


async def test_an_id_that_comes_again_brings_nothing_along(
    victim: Person, attacker: Person
) -> None:
    await victim.say("reused", "remember what was before")
    await victim.say("reused", "say what was printed before")
    kept = victim.ticket("reused")
    assert victim.http.delete("endpoint/sessions/reused").status_code == 204
    # Somebody else makes one of the same id: nothing of the old one is there.
    assert await attacker.say("reused", "hello") == "hello"
    files = attacker.http.get("endpoint/sessions/reused/files").json()["entries"]
    assert "memory" not in [entry["name"] for entry in files]
    log = attacker.http.get("sessions/reused:logstream", params={"follow": "false"}).text
    assert "printed before" not in log
    assert len(attacker.http.get("endpoint/sessions/reused/connections").json()["data"]) <= 1
    await attacker.say("reused", "remember the new one")
    # And whoever had the old one isn't let into the new one, whatever they kept.
    assert await victim.status_with(kept, "reused") == 403
    assert await victim.status_of("reused") == 403
    for name, answer in victim.everything_about("reused").items():
        # Of the old one they are told that it is gone; of the new one nothing.
        is_refused = answer.status_code in (403, 404)
        assert is_refused or (name, answer.status_code) == ("delete", 204), (name, answer.text)
    # What they deleted, again, was the old one.
    assert await attacker.say("reused", "recall") == "the new one"


async def test_of_two_who_want_one_id_at_once_one_gets_it(victim: Person, attacker: Person) -> None:
    for number in range(3):
        name = f"raced-{number}"
        statuses = await asyncio.gather(victim.status_of(name), attacker.status_of(name))
        assert sorted(statuses) == [101, 403]
        winner = (victim, attacker)[statuses.index(101)]
        assert await winner.status_of(name) == 101


async def test_a_guess_is_told_nothing(victim: Person, attacker: Person) -> None:
    await victim.say("secret-session", "hello")

    def told(answer: httpx2.Response, session: str) -> tuple[object, ...]:
        shown = {
            name: value for name, value in answer.headers.items()
            if name not in ("date", "x-request-id")
        }  # fmt: skip
        text = f"{answer.text} {shown}".replace(session, "ID")
        # The length of the id is the asker's own.
        return answer.status_code, re.sub(r"'content-length': '\d+'", "", text)

    # These make a session of an id that is free: that it is may be known, as whose one is that
    # isn't may not.
    making = frozenset({"create", "invoke", "respond"})
    there, nowhere = (
        attacker.everything_about(session, without=making)
        for session in ("secret-session", "absent-session")
    )
    assert len(there) == 8
    for name, answer in there.items():
        assert told(answer, "secret-session") == told(nowhere[name], "absent-session"), name


#: What is made for callers, and the least bits of it that nobody can know.
MADE: dict[str, tuple[Callable[[], str], int]] = {
    "a session's id": (new_session_id, 128),
    "a call's id": (new_call_id, 128),
    "a response's item": (lambda: new_id("msg").removeprefix("msg_"), 192),
}


@pytest.mark.parametrize(("make", "bits"), MADE.values(), ids=MADE)
def test_what_is_made_up_cannot_be_guessed(make: Callable[[], str], bits: int) -> None:
    made = [make() for _ in range(2000)]
    assert len(set(made)) == len(made)
    (length,) = {len(each) for each in made}
    assert set("".join(made)) == set(string.hexdigits.lower())
    assert length * 4 >= bits
    # Each place takes each digit: none of it is a counter, a time or a process's number.
    for place in range(length):
        assert {each[place] for each in made} == set(string.hexdigits.lower()), place


@pytest.mark.parametrize("make", [make for make, _ in MADE.values()], ids=MADE)
def test_nobody_learns_the_next_from_those_before(make: Callable[[], str]) -> None:
    # A generator that can be put into a state would say the same again.
    random.seed(1)
    first = [make() for _ in range(3)]
    random.seed(1)
    assert not set(first) & {make() for _ in range(3)}


def test_all_randomness_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def counting(real: Callable[[int], bytes]) -> Callable[[int], bytes]:
        def counted(count: int) -> bytes:
            drawn.append(count)
            return real(count)

        return counted

    # The one asks the other, by a name that it has kept: nothing is counted twice.
    monkeypatch.setattr(secrets, "token_bytes", counting(secrets.token_bytes))
    monkeypatch.setattr(os, "urandom", counting(os.urandom))
    for make, bits in MADE.values():
        drawn.clear()
        for _ in range(1000):
            make()
        # Some are drawn ahead: those of before may have left a few.
        assert (sum(drawn) + DRAWN_BYTES) * 8 >= 1000 * bits
        assert sum(drawn) > 0


def test_tickets_and_keys_hold_256_bits(victim: Person, platform: Platform) -> None:
    tickets = {victim.ticket("t").removeprefix("tlt_") for _ in range(20)}
    assert len(tickets) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", ticket) for ticket in tickets)
    made = platform.run("keys", "create", "n", "--role", "reader").stdout.strip()
    assert re.fullmatch(r"tlk_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", made)


def test_a_pseudonym_says_nothing_without_the_key() -> None:
    someone = Identity("https://login.example", "olga")
    names = {Pseudonyms(secrets.token_bytes(32)).of(someone) for _ in range(100)}
    assert len(names) == 100
