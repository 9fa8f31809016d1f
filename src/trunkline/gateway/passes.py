"""What whole heads of upgrades came to, so that the next one like it is let in by a look.

A client that comes again sends the head it sent before, but for the handshake's key. What is
decided about an upgrade from its target, its header fields and its token comes out the same then,
for as long as the token holds. So it is remembered by a digest of the head without the key: the
head isn't even taken apart. What depends on anything else is decided each time: rates, numbers of
connections, revocations, and all that the session's state has a say in.

Only a head that comes again is remembered: those who bring a new token each time wouldn't be found,
and would drive out the others.
"""

import hashlib
from typing import Final, NamedTuple

from trunkline.auth.admission import Admission
from trunkline.auth.caller import Caller
from trunkline.gateway.handshake import KEY
from trunkline.gateway.requests import Fields, UpgradeRequest
from trunkline.gateway.seen_heads import BEARER, END, KEY_LINES, KEY_NAME, TOKEN_NAME
from trunkline.protocol.ids import SessionKey

#: Each takes about a kibibyte: what has a longer target isn't kept.
_MAX_KEPT: Final = 4096
_MAX_TARGET_CHARS: Final = 1024
_MAX_ONCE: Final = 4096
_KEY_CHARS: Final = 24


class Name(NamedTuple):
    """What a head is found by.

    Attributes:
        digest: Of all of it but the key.
        key: The handshake's key.
        size: The head's bytes.
    """

    digest: bytes
    key: bytes
    size: int


def name_of(data: bytes) -> Name | None:
    """Return the name of the head that the data begins with; None if it has none."""
    end = data.find(END)
    if end < 0:
        return None
    size = end + len(END)
    for line in KEY_LINES:
        at = data.find(line, 0, end)
        if at >= 0:
            at += len(line)
            key = data[at : at + _KEY_CHARS]
            if not KEY.fullmatch(key):
                return None
            rest = data[:at] + data[at + _KEY_CHARS : size]
            return Name(hashlib.sha256(rest).digest(), key, size)
    return None


# Not a dataclass: one that is frozen takes twice as long to make.
class Admitted(NamedTuple):
    """An upgrade that may go to its session.

    Attributes:
        caller: Who asks.
        key: The session.
        is_named: Whether the caller has named it.
        start: The beginning of the head that the agent gets.
        told: The lines of that head that say who asks.
    """

    caller: Caller
    key: SessionKey
    is_named: bool
    start: bytes
    told: str


class SeenHead(NamedTuple):
    """A head whose fields came before, and how another one like it is found.

    Attributes:
        name: Its name.
        bearer: Where in it its token is, which isn't remembered.
    """

    name: Name
    bearer: slice


class Pass(NamedTuple):
    """What is remembered of a head.

    Attributes:
        path: The target's path.
        query: The target's query.
        fields: The header fields that others may have, too.
        bearer: Where in the head the token is.
        token: The token's digest, SHA-256.
        shown: Whose it is: the very object that was recalled.
        admitted: What the upgrade was let in to.
    """

    path: str
    query: str
    fields: Fields
    bearer: slice
    token: bytes
    shown: Caller
    admitted: Admitted

    def request(self, name: Name, data: bytes) -> UpgradeRequest:
        """Return the request of a head of that name."""
        own = {KEY_NAME: name.key, TOKEN_NAME: data[self.bearer]}
        return UpgradeRequest("GET", self.path, self.query, self.fields, own)


class Passes:
    """What is remembered of heads."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Pass] = {}
        #: The digests of heads that came once.
        self._once: set[bytes] = set()

    def find(self, name: Name, admission: Admission) -> Pass | None:
        """Return what is remembered of a head, if its token holds still."""
        found = self._kept.get(name.digest)
        if found is None or admission.recall(found.token) is not found.shown:
            return None
        return found

    def keep(
        self, seen: SeenHead, request: UpgradeRequest, admitted: Admitted, admission: Admission
    ) -> None:
        """Remember what a head came to, if it comes again and its token is one that is recalled."""
        if len(request.path) + len(request.query) > _MAX_TARGET_CHARS:
            return
        digest = seen.name.digest
        if digest not in self._once:
            if len(self._once) >= _MAX_ONCE:
                # Who comes often is soon there again.
                self._once.clear()
            self._once.add(digest)
            return
        bearer = request.own[TOKEN_NAME]
        token = hashlib.sha256(bearer.removeprefix(BEARER)).digest()
        shown = admission.recall(token)
        if shown is None:
            return
        self._once.discard(digest)
        if len(self._kept) >= _MAX_KEPT and digest not in self._kept:
            # The one that was kept first. What comes often is soon kept again.
            del self._kept[next(iter(self._kept))]
        self._kept[digest] = Pass(
            request.path, request.query, request.fields, seen.bearer, token, shown, admitted
        )

    def __len__(self) -> int:
        return len(self._kept)
