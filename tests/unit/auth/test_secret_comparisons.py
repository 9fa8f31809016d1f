"""No comparison tells by its time how much of a guess was right.

Nothing here measures time. What is sent in, and what is kept to know it by, is put in as texts that
refuse to be compared: then whatever decides by comparing them fails. What may decide is
`hmac.compare_digest`, a look into a table by a SHA-256, or a signature with a public key.
"""

import ast
import datetime as dt
import hashlib
import hmac
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trunkline.auth.caller import Caller
from trunkline.auth.identity import Identity
from trunkline.auth.introspection import IntrospectedTokens
from trunkline.auth.issuer import DevelopmentIssuer
from trunkline.auth.providers import Introspection
from trunkline.auth.settings import AuthSettings
from trunkline.auth.verify import TokenVerifier, development
from trunkline.console.kept import Secrets
from trunkline.control import api_keys
from trunkline.control.api_keys import ApiKeyTokens, digest_of
from trunkline.gateway.ticket_office import TicketOffice
from trunkline.protocol.errors import AuthenticationError
from trunkline.protocol.ids import AgentName, ProjectName, SessionId, SessionKey
from trunkline.store.records import ApiKeyRecord, TicketRecord

SOURCE = Path(__file__).parents[3] / "src" / "trunkline"
KEY = SessionKey(ProjectName("default"), AgentName("voice"), SessionId("s1"))
KEY_ID = "0123456789abcdef"


class Incomparable(str):
    """A text that fails the test when it is compared, which is how its content would leak."""

    __slots__ = ()

    def _refuse(self, other: object) -> bool:
        raise AssertionError("a secret was compared by its content")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse  # type: ignore[assignment]

    def __hash__(self) -> int:
        # A table's look compares what has the same hash.
        raise AssertionError("a secret was looked up by its content")


@pytest.fixture
def comparisons(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was compared in constant time."""
    seen: list[tuple[str, str]] = []
    real = hmac.compare_digest

    def watched(a: Any, b: Any) -> bool:
        seen.append((str.__str__(a), str.__str__(b)))
        return real(a, b)

    monkeypatch.setattr(api_keys.hmac, "compare_digest", watched)
    return seen


def test_the_text_that_tells() -> None:
    secret = Incomparable("secret")
    for compare in (secret.__eq__, secret.__ne__, secret.__lt__, ["x"].count, {"x": 1}.get):
        with pytest.raises(AssertionError):
            compare(secret)
    with pytest.raises(AssertionError):
        assert "x" == secret  # noqa: SIM300 - the other side's turn
    assert hmac.compare_digest(secret, Incomparable("secret"))


class Keys:
    """The part of a store that knows API keys."""

    def __init__(self, record: ApiKeyRecord) -> None:
        self._record = record

    async def find_api_key(self, key_id: str) -> ApiKeyRecord | None:
        return self._record if key_id == KEY_ID else None


def api_key(secret: str, key_id: str = KEY_ID) -> str:
    return f"tlk_{key_id}_{secret}"


@pytest.mark.parametrize(
    ("given", "is_right"),
    [
        (api_key("a" * 43), True),
        (api_key("a" * 42 + "b"), False),
        (api_key("b" + "a" * 42), False),
        (api_key("a" * 43, "f" * 16), False),
        ("tlk_", False),
    ],
)
async def test_an_api_key_is_compared_once_in_constant_time_whether_it_is_there_or_not(
    comparisons: list[tuple[str, str]], given: str, is_right: bool
) -> None:
    now = dt.datetime.now(dt.UTC)
    record = ApiKeyRecord(
        key_id=KEY_ID, project=ProjectName("default"), name="n",
        digest=Incomparable(digest_of(api_key("a" * 43))), grants=("invoker",), created_by="a|b",
        created_at=now, expires_at=now + dt.timedelta(days=1),
    )  # fmt: skip
    keys: Any = Keys(record)
    tokens = ApiKeyTokens(keys)
    for number in (1, 2):
        try:
            caller = await tokens.identify(Incomparable(given))
        except AuthenticationError:
            assert not is_right
        else:
            assert is_right
            assert caller.credential == f"key:{KEY_ID}"
        # Of the digests: how long that takes says nothing of the key even if it told something.
        assert len(comparisons) == number
        assert comparisons[-1][0] == digest_of(given)


class TicketTable:
    """The part of a store that keeps tickets."""

    def __init__(self, record: TicketRecord) -> None:
        self._record = record
        self.asked: list[str] = []

    async def take_ticket(self, digest: str) -> TicketRecord | None:
        self.asked.append(digest)
        return self._record if len(self.asked) == 1 else None


async def test_a_ticket_is_looked_up_by_its_digest_alone() -> None:
    ticket = "tlt_" + "a" * 43
    caller = Caller(identity=Identity("i", "olga"), expires_at=math.inf)
    table: Any = TicketTable(
        TicketRecord(
            digest=Incomparable("0" * 64), key=KEY, origin=None, caller=caller.to_json(),
            expires_at=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60),
        )
    )  # fmt: skip
    office = TicketOffice(table)
    assert (await office.redeem(Incomparable(ticket), None))[1] == KEY
    with pytest.raises(AuthenticationError):
        await office.redeem(Incomparable(ticket), None)
    assert table.asked == [hashlib.sha256(ticket.encode()).hexdigest()] * 2


async def test_a_token_that_was_seen_is_known_by_its_digest(tmp_path: Path) -> None:
    settings, issuer = AuthSettings(), DevelopmentIssuer.open(tmp_path)
    verifier = TokenVerifier(settings, development(settings, issuer.jwks()))
    token = issuer.issue("olga")
    for _ in range(2):
        caller = await verifier.identify_token(Incomparable(token))
        assert caller.identity.subject == "olga"
    head, body, signature = token.split(".")
    for wrong in (f"{head}.{body}.{'A' * len(signature)}", f"{head}.{body}.{signature[:-4]}AAAA"):
        with pytest.raises(AuthenticationError):
            await verifier.identify_token(Incomparable(wrong))


async def test_an_opaque_token_is_known_by_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = AuthSettings()
    issuer, _ = development(settings, {"keys": []})[0]
    place = Introspection(endpoint="https://x", client_id="c", client_secret="s")
    tokens = IntrospectedTokens(issuer, place, settings)
    asked = []

    async def post(token: str) -> dict[str, Any]:
        asked.append(token)
        return {
            "active": True, "sub": "olga", "aud": settings.audience,
            "exp": time.time() + 60,
        }  # fmt: skip

    monkeypatch.setattr(tokens, "_post", post)
    for _ in range(2):
        caller = await tokens.identify(Incomparable("opaque"))
        assert caller.identity.subject == "olga"
    assert len(asked) == 1


def test_what_a_browser_has_is_known_by_its_digest(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path, time.time)
    secret = secrets.make("olga", 60)
    for wrong in (secret[:-1] + ("A" if secret[-1] != "A" else "B"), "", secret.upper()):
        assert secrets.find(Incomparable(wrong)) is None
    held = secrets.find(Incomparable(secret))
    assert held is not None
    assert held.user == "olga"
    assert secrets.take(Incomparable(secret)) is not None
    assert not [path for path in tmp_path.rglob("*") if secret in path.name]


#: Names of what nobody may guess, and of what is kept to know it by. Those of constants are in
#: capitals, and in the source for everybody.
_SECRET = re.compile(
    r"token$|ticket$|secret$|digest|signature|api_?key$|renewal$|password|fingerprint"
)
#: Comparisons that say nothing of a secret, as they stand in the source.
_HARMLESS = {
    # Sizes and times of a certificate's files, which are no secret.
    "signature == self._tried",
    # Heads that came before are looked up by their SHA-256.
    "digest not in self._once",
    "digest not in self._kept",
}


def comparisons_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        if not any(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops):
            continue
        sides = [
            side
            for side in (node.left, *node.comparators)
            if isinstance(side, ast.Name | ast.Attribute)
        ]
        names = [side.id if isinstance(side, ast.Name) else side.attr for side in sides]
        if any(_SECRET.search(name) for name in names):
            yield ast.unparse(node)


@pytest.mark.parametrize(
    "package", ["auth", "console", "control", "gateway", "platform", "sessions", "store", "web"]
)
def test_no_line_compares_a_secret(package: str) -> None:
    found = {
        f"{path.relative_to(SOURCE)}: {text}"
        for path in sorted((SOURCE / package).rglob("*.py"))
        for text in comparisons_in(ast.parse(path.read_text()))
        if text not in _HARMLESS
    }
    assert not found, "use hmac.compare_digest, or look it up by its SHA-256"


@pytest.mark.parametrize(
    "line",
    [
        "token == given",
        "if record.digest != digest: pass",
        "x = a or api_key == b",
        "ticket in known",
        "signature == self._last",
    ],
)
def test_what_the_look_at_the_source_finds(line: str) -> None:
    assert list(comparisons_in(ast.parse(line)))
