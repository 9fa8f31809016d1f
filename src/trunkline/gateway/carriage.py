"""Where an upgrade carries what lets it in: taken out before anybody else sees it. Pure.

Programs send ``Authorization``. A browser can't; it may put a ticket in the query, or a ticket or
a token among the subprotocols, behind a sentinel that is all the answer ever names:

    trunkline.ticket.TICKET, trunkline.ticket
    base64UrlBearerAuthorization.BASE64URL(TOKEN), base64UrlBearerAuthorization
"""

import base64
import binascii
import re
from dataclasses import replace
from typing import Final, NamedTuple

from trunkline.gateway.requests import UpgradeRequest
from trunkline.protocol.errors import AuthenticationError, InvalidRequestError

QUERY_TICKET: Final = "ticket"
TICKET_PREFIX: Final = "tlt_"
TICKET_SENTINEL: Final = "trunkline.ticket"
TOKEN_SENTINEL: Final = "base64UrlBearerAuthorization"  # noqa: S105 - the name of a place
_PROTOCOLS: Final = b"sec-websocket-protocol"
_BASE64: Final = re.compile(r"[A-Za-z0-9_-]+")
#: It is sent on to another process as a header: no space, and no line end.
_TOKEN: Final = re.compile(r"[!-~]+")


class Carried(NamedTuple):
    """What an upgrade brought to be let in.

    Attributes:
        authorization: As an ``Authorization`` header would have it, or None.
        ticket: A ticket, or None.
        sentinel: The subprotocol to answer with, if the agent chooses none.
    """

    authorization: str | None = None
    ticket: str | None = None
    sentinel: str | None = None


def take_out(request: UpgradeRequest) -> tuple[UpgradeRequest, Carried]:
    """Return the request without its credentials, except ``Authorization``, and those.

    Raises:
        InvalidRequestError: If it brings more than one.
        AuthenticationError: If what stands behind a sentinel isn't base64.
    """
    query = request.query
    tickets: list[str] = []
    if QUERY_TICKET in query or "%" in query:
        query, tickets = _from_query(query)
    if not tickets and request.header(_PROTOCOLS) is None:
        # As programs do it.
        return request, Carried(request.header(b"authorization") or None)
    offered = [
        word.strip()
        for name, value in request.headers
        if name == _PROTOCOLS
        for word in value.decode("latin-1").split(",")
    ]
    in_protocols = [word for word in offered if _is_ours(word)]
    tickets += [
        word.removeprefix(f"{TICKET_SENTINEL}.")
        for word in in_protocols
        if word.startswith(f"{TICKET_SENTINEL}.")
    ]
    tokens = [
        f"Bearer {_decoded(word.removeprefix(f'{TOKEN_SENTINEL}.'))}"
        for word in in_protocols
        if word.startswith(f"{TOKEN_SENTINEL}.")
    ]
    if header := request.header(b"authorization"):
        tokens.append(header)
    if len(tickets) + len(tokens) > 1:
        raise InvalidRequestError(
            "the request brings more than one token or ticket; send one of Authorization, "
            f"the query's {QUERY_TICKET}, or a subprotocol"
        )
    sentinel = next((w for w in (TICKET_SENTINEL, TOKEN_SENTINEL) if w in in_protocols), None)
    if query != request.query or in_protocols:
        left = ", ".join(word for word in offered if word and word not in in_protocols)
        headers = [pair for pair in request.headers if pair[0] != _PROTOCOLS]
        if left:
            headers.append((_PROTOCOLS, left.encode("latin-1")))
        request = replace(request.with_headers(headers), query=query)
    return request, Carried(
        tokens[0] if tokens else None, tickets[0] if tickets else None, sentinel
    )


def with_authorization(request: UpgradeRequest, authorization: str) -> UpgradeRequest:
    """Return the request with its token where programs send it."""
    headers = [pair for pair in request.headers if pair[0] != b"authorization"]
    headers.append((b"authorization", authorization.encode("latin-1")))
    return request.with_headers(headers)


def with_ticket(request: UpgradeRequest, ticket: str) -> UpgradeRequest:
    """Return the request with a ticket in its query, in the place of what let it in."""
    query = f"{request.query}&" if request.query else ""
    headers = [pair for pair in request.headers if pair[0] != b"authorization"]
    return replace(request.with_headers(headers), query=f"{query}{QUERY_TICKET}={ticket}")


def _from_query(query: str) -> tuple[str, list[str]]:
    pairs = query.split("&")
    prefix = f"{QUERY_TICKET}="
    # A ticket has no character that anybody would write as %XX; its name might be.
    mine = [pair for pair in pairs if _name_of(pair) == QUERY_TICKET]
    if not mine:
        return query, []
    left = "&".join(pair for pair in pairs if pair not in mine)
    return left, [pair.removeprefix(prefix) for pair in mine]


def _name_of(pair: str) -> str:
    name = pair.partition("=")[0]
    return re.sub("%([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), name)


def _is_ours(word: str) -> bool:
    return any(
        word == sentinel or word.startswith(f"{sentinel}.")
        for sentinel in (TICKET_SENTINEL, TOKEN_SENTINEL)
    )


def _decoded(text: str) -> str:
    try:
        if not _BASE64.fullmatch(text):
            raise ValueError
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
        if not _TOKEN.fullmatch(decoded):
            raise ValueError
    except (ValueError, binascii.Error):
        raise AuthenticationError(
            f"what follows {TOKEN_SENTINEL}. isn't a token in base64url"
        ) from None
    return decoded
