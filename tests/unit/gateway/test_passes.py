"""What is remembered of upgrades: by all of their heads but the key, and so many of them."""

import hashlib
from dataclasses import replace

import pytest

from trunkline.auth.admission import Admission
from trunkline.auth.caller import Caller
from trunkline.auth.identity import Identity
from trunkline.auth.revocations import Revocations
from trunkline.gateway import passes
from trunkline.gateway.passes import Admitted, Passes, SeenHead, name_of
from trunkline.gateway.requests import Fields, UpgradeRequest
from trunkline.protocol.ids import AgentName, ProjectName, SessionId, SessionKey

KEY, OTHER_KEY = b"dGhlIHNhbXBsZSBub25jZQ==", b"AAAAAAAAAAAAAAAAAAAAAA=="
TOKEN = b"a.b.c"
HEAD = b"GET /p?q HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: %b\r\nAuthorization: Bearer %b\r\n\r\n"
ANNA = Caller(identity=Identity("urn:test", "anna"))
SESSION = SessionKey(ProjectName("p"), AgentName("a"), SessionId("s"))
ADMITTED = Admitted(ANNA, SESSION, True, b"GET / HTTP/1.1\r\n", "x-user: 1\r\n")


class Verifier:
    """Knows tokens by their digests."""

    def __init__(self) -> None:
        self.known: dict[bytes, Caller] = {hashlib.sha256(TOKEN).digest(): ANNA}

    def recall(self, digest: bytes) -> Caller | None:
        return self.known.get(digest)


def admission() -> Admission:
    return Admission(Verifier())  # type: ignore[arg-type]


def seen(head: bytes, token: bytes = TOKEN) -> tuple[SeenHead, UpgradeRequest]:
    name = name_of(head)
    assert name is not None
    bearer = b"Bearer " + token
    own = {b"sec-websocket-key": name.key, b"authorization": bearer}
    at = head.index(bearer)
    request = UpgradeRequest("GET", "/p", "q", Fields([(b"host", b"x")]), own)
    return SeenHead(name, slice(at, at + len(bearer))), request


def keep(kept: Passes, head: bytes, known: Admission, token: bytes = TOKEN) -> None:
    """Have a head come twice."""
    for _ in range(2):
        kept.keep(*seen(head, token), ADMITTED, known)


def test_a_head_with_another_key_is_found_and_has_its_own() -> None:
    kept, known = Passes(), admission()
    keep(kept, HEAD % (KEY, TOKEN), known)
    data = HEAD % (OTHER_KEY, TOKEN) + b"frames"
    name = name_of(data)
    assert name is not None
    assert data[name.size :] == b"frames"
    found = kept.find(name, known)
    assert found is not None
    assert found.admitted is ADMITTED
    request = found.request(name, data)
    assert request.own == {
        b"sec-websocket-key": OTHER_KEY,
        b"authorization": b"Bearer " + TOKEN,
    }
    assert (request.path, request.query, request.method) == ("/p", "q", "GET")


@pytest.mark.parametrize(
    "change",
    [
        (b"GET /p", b"GET /P"), (b"?q", b"?r"), (b"Host: x", b"Host: y"), (b"a.b.c", b"a.b.d"),
        (b"Bearer", b"bearer"), (b"\r\n\r\n", b"\r\nx: y\r\n\r\n"), (b"HTTP/1.1", b"HTTP/1.0"),
        (b"Sec-WebSocket", b"sec-websocket"),
    ],
)  # fmt: skip
def test_any_other_difference_is_another_head(change: tuple[bytes, bytes]) -> None:
    kept, known = Passes(), admission()
    keep(kept, HEAD % (KEY, TOKEN), known)
    name = name_of((HEAD % (KEY, TOKEN)).replace(*change))
    assert name is None or kept.find(name, known) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        (HEAD % (KEY, TOKEN))[:-1],
        HEAD % (KEY[:-1], TOKEN),
        HEAD % (KEY[:-3] + b"\r\n ", TOKEN),
        HEAD % (b" " + KEY, TOKEN),
        (HEAD % (KEY, TOKEN)).replace(b"Sec-WebSocket-Key", b"SEC-WEBSOCKET-KEY"),
        b"GET / HTTP/1.1\r\n\r\n\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n",
    ],
)
def test_what_has_no_name_is_for_others_to_read(data: bytes) -> None:
    assert name_of(data) is None


def test_a_key_that_is_longer_is_part_of_another_head() -> None:
    kept, known = Passes(), admission()
    keep(kept, HEAD % (KEY, TOKEN), known)
    name = name_of(HEAD % (KEY + b"A", TOKEN))
    assert name is None or kept.find(name, known) is None


def test_a_token_that_holds_no_more_lets_nobody_in() -> None:
    kept, verifier, revoked = Passes(), Verifier(), Revocations()
    known = Admission(verifier, revoked)  # type: ignore[arg-type]
    keep(kept, HEAD % (KEY, TOKEN), known)
    name = name_of(HEAD % (KEY, TOKEN))
    assert name is not None
    assert kept.find(name, known) is not None
    revoked.replace([(ANNA.identity, 1.0)])
    assert kept.find(name, known) is None
    revoked.replace([])
    # So is the same token when it was verified anew: what it grants may not be the same.
    verifier.known = dict.fromkeys(verifier.known, ANNA._replace())
    assert kept.find(name, known) is None
    verifier.known.clear()
    assert kept.find(name, known) is None


def test_a_token_that_is_not_recalled_is_not_remembered() -> None:
    kept = Passes()
    keep(kept, HEAD % (KEY, b"api-key"), admission(), b"api-key")
    assert len(kept) == 0


def test_a_head_that_came_once_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_MAX_ONCE", 3)
    kept, known = Passes(), admission()
    for number in range(10):
        head = (HEAD % (KEY, TOKEN)).replace(b"/p", b"/%d" % number)
        kept.keep(*seen(head), ADMITTED, known)
        assert len(kept._once) <= 3
    assert len(kept) == 0
    kept.keep(*seen(head), ADMITTED, known)
    assert len(kept) == 1
    # It has to come twice again, should it be forgotten.
    assert seen(head)[0].name.digest not in kept._once


def test_no_token_is_kept() -> None:
    kept = Passes()
    keep(kept, HEAD % (KEY, TOKEN), admission())
    assert len(kept) == 1
    assert TOKEN.decode() not in repr(vars(kept))


def test_there_are_no_more_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_MAX_KEPT", 3)
    kept, known = Passes(), admission()
    heads = [(HEAD % (KEY, TOKEN)).replace(b"/p", b"/%d" % number) for number in range(5)]
    for head in heads:
        keep(kept, head, known)
    assert len(kept) == 3
    names = [name_of(head) for head in heads]
    assert [kept.find(name, known) is not None for name in names if name] == [False] * 2 + [
        True
    ] * 3


@pytest.mark.parametrize(("characters", "number"), [(1022, 1), (1023, 0)])
def test_a_long_target_is_not_remembered(characters: int, number: int) -> None:
    kept, (head, request) = Passes(), seen(HEAD % (KEY, TOKEN))
    request = replace(request, query="q" * characters)
    for _ in range(2):
        kept.keep(head, request, ADMITTED, admission())
    assert len(kept) == number
