"""Heads that are looked up instead of parsed: the same is found in them, and nothing else."""

import asyncio
import contextlib

import pytest
from hypothesis import given, settings, strategies as st

from fuzz.front_door import FrontDoorHarness
from trunkline.gateway.handshake import check_handshake
from trunkline.gateway.requests import UpgradeRequest
from trunkline.gateway.seen_heads import SeenHeads, cut
from trunkline.protocol.errors import TrunklineError

KEY, OTHER_KEY = b"dGhlIHNhbXBsZSBub25jZQ==", b"A+/z" * 5 + b"AA=="
FIELDS = [
    (b"Host", b"x"),
    (b"Connection", b"Upgrade"),
    (b"Upgrade", b"websocket"),
    (b"Sec-WebSocket-Key", KEY),
    (b"Authorization", b"Bearer a.b.c"),
    (b"User-Agent", b"me"),
]


def head(*changes: tuple[bytes, bytes], target: bytes = b"/ws?a=b") -> bytes:
    changed = dict(changes)
    lines = [b"GET " + target + b" HTTP/1.1"]
    lines += [name + b": " + changed.get(name, value) for name, value in FIELDS]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@pytest.fixture(scope="module")
def harness() -> FrontDoorHarness:
    return FrontDoorHarness()


def pairs(*changes: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    changed = dict(changes)
    return [(name.lower(), changed.get(name, value)) for name, value in FIELDS]


def kept(*changes: tuple[bytes, bytes]) -> SeenHeads:
    seen, parts = SeenHeads(), cut(head(*changes))
    assert parts is not None
    seen.keep(parts, UpgradeRequest.of_target(b"GET", b"/ws?a=b", pairs(*changes)))
    return seen


def test_another_key_token_and_target_are_found() -> None:
    changes = ((b"Sec-WebSocket-Key", OTHER_KEY), (b"Authorization", b"Bearer other_"))
    parts = cut(head(*changes, target=b"/else") + b"frames")
    assert parts is not None
    found = kept().find(parts)
    assert found is not None
    assert (found.method, found.path, found.query) == ("GET", "/else", "")
    assert sorted(found.headers) == sorted(pairs(*changes))
    assert found.header(b"authorization") == "Bearer other_"
    assert found.fields.forwarded == b"user-agent: me\r\n"
    assert found.own_forwarded == b"sec-websocket-key: " + OTHER_KEY + b"\r\n"
    assert found.own[b"authorization"] == b"Bearer other_"
    assert parts.size == len(head(*changes, target=b"/else"))


@pytest.mark.parametrize(
    ("more", "is_sound"),
    [
        ([(b"Sec-WebSocket-Version", b"13")], True),
        ([(b"Sec-WebSocket-Version", b"13"), (b"Content-Length", b"0")], True),
        ([], False),
        ([(b"Sec-WebSocket-Version", b"12")], False),
        ([(b"Sec-WebSocket-Version", b"13"), (b"Content-Length", b"1")], False),
        ([(b"Sec-WebSocket-Version", b"13"), (b"Transfer-Encoding", b"chunked")], False),
    ],
)
def test_a_handshake_is_checked_again_unless_one_with_the_same_fields_was_right(
    more: list[tuple[bytes, bytes]], is_sound: bool
) -> None:
    lines = b"".join(b"%b: %b\r\n" % pair for pair in more)
    parts = cut(head().removesuffix(b"\r\n") + lines + b"\r\n")
    assert parts is not None
    request = UpgradeRequest.of_target(
        b"GET", b"/ws", [*pairs(), *((name.lower(), value) for name, value in more)]
    )
    seen = SeenHeads()
    seen.keep(parts, request)
    found = seen.find(parts)
    assert found is not None
    assert found.fields.is_sound is is_sound
    assert not found.with_headers(found.headers).fields.is_sound
    for each in (request, found):
        with contextlib.ExitStack() as stack:
            if not is_sound:
                stack.enter_context(pytest.raises(TrunklineError))
            check_handshake(each)


def test_another_field_is_another_head() -> None:
    parts = cut(head((b"User-Agent", b"you")))
    assert parts is not None
    assert kept().find(parts) is None


@pytest.mark.parametrize(
    "data",
    [
        head(target=b"//evil/ws"), head(target=b"http://x/ws"), head(target=b"/ws#a"),
        head(target=b"/a b"), head(target=b"/\xff"), head()[:-2],
        head().replace(b"GET", b"POST", 1), head().replace(b"HTTP/1.1", b"HTTP/1.0", 1),
        head((b"Sec-WebSocket-Key", b"short")), head((b"Sec-WebSocket-Key", KEY + b" ")),
        head((b"Authorization", b"\r")), head((b"Authorization", b"Basic abc")),
        head((b"Authorization", b"Bearer a b")),
        head((b"Authorization", b"Bearer ")), head((b"Authorization", b"bearer a")),
        head((b"Authorization", b"Bearer a\0")),
        head().replace(b"\r\nSec-WebSocket-Key", b"\nSec-WebSocket-Key"),
    ],
)  # fmt: skip
def test_what_is_not_as_usual_is_the_parsers(data: bytes) -> None:
    assert cut(data) is None


@pytest.mark.parametrize("secret", [b"Cookie", b"Proxy-Authorization", b"Sec-WebSocket-Protocol"])
def test_no_secret_is_kept(secret: bytes) -> None:
    data = head().replace(b"User-Agent", secret)
    parts = cut(data)
    assert parts is not None
    assert not any(b"a.b.c" in part or KEY in part for part in parts.common)
    seen = SeenHeads()
    given = [(secret.lower() if name == b"user-agent" else name, value) for name, value in pairs()]
    seen.keep(parts, UpgradeRequest.of_target(b"GET", b"/ws", given))
    assert len(seen) == 0


def test_one_without_a_token_is_another_head() -> None:
    parts = cut(head().replace(b"Authorization: Bearer a.b.c", b"X: y"))
    assert parts is not None
    assert kept().find(parts) is None


def test_two_keys_are_not_kept() -> None:
    data = head().replace(b"User-Agent: me", b"Sec-WebSocket-Key: " + OTHER_KEY)
    parts = cut(data)
    assert parts is not None
    seen = SeenHeads()
    given = [*pairs()[:-1], (b"sec-websocket-key", OTHER_KEY)]
    seen.keep(parts, UpgradeRequest.of_target(b"GET", b"/ws", given))
    assert len(seen) == 0


def test_what_is_kept_is_bounded() -> None:
    seen = SeenHeads()
    for number in range(2000):
        given = (b"User-Agent", b"%d" % number)
        parts = cut(head(given))
        assert parts is not None
        seen.keep(parts, UpgradeRequest.of_target(b"GET", b"/ws", pairs(given)))
    assert len(seen) == 512
    assert seen.find(parts) is not None
    long = (b"User-Agent", b"x" * 3000)
    parts = cut(head(long))
    assert parts is not None
    seen.keep(parts, UpgradeRequest.of_target(b"GET", b"/ws", pairs(long)))
    assert seen.find(parts) is None


VALUES = st.one_of(
    st.sampled_from([KEY, OTHER_KEY, b"Bearer x.y", b"bearer  z", b"Bearer ", b"a\r\nX: y", b"\n",
                     b"websocket", KEY + b"\t", b"Bearer x\0", b"Bearer a b"]),
    st.binary(max_size=6),
)  # fmt: skip
TARGETS = st.one_of(
    st.sampled_from([b"/ws", b"/ws?", b"/ws?a=b?c", b"//h/ws", b"/a%20b", b"/%zz", b"/a#b", b"*",
                     b"http://h/p?q", b"/a\tb", b"/^`|", b"/?q"]),
    st.binary(max_size=5).map(lambda end: b"/" + end),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.sampled_from([name for name, _ in FIELDS]), VALUES), max_size=3),
    target=TARGETS,
    extra=st.sampled_from([b"", b"Sec-WebSocket-Key: " + KEY + b"\r\n",
                           b"Authorization: Bearer q\r\n", b" Authorization: Bearer q\r\n",
                           b"Transfer-Encoding: chunked\r\n"]),
)  # fmt: skip
def test_the_same_is_decided_as_by_parsing(
    harness: FrontDoorHarness,
    changes: list[tuple[bytes, bytes]],
    target: bytes,
    extra: bytes,
) -> None:
    # The heads of earlier examples are kept, so what is like one of them isn't parsed.
    data = head(*changes, target=target)
    data = data[:-2] + extra + data[-2:] + b"frames"
    looked_up = asyncio.run(harness.decide([data]))
    # In two pieces it goes to the front door, which parses it.
    assert looked_up == asyncio.run(harness.decide([data[:3], data[3:]]))
