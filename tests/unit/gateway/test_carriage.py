"""What an upgrade is let in by, taken out of it."""

import base64

import pytest

from trunkline.gateway.carriage import Carried, take_out, with_authorization, with_ticket
from trunkline.gateway.requests import Fields, UpgradeRequest
from trunkline.protocol.errors import AuthenticationError, InvalidRequestError

TICKET, TOKEN = "tlt_secret-ticket", "header.payload.signature"
ENCODED = base64.urlsafe_b64encode(TOKEN.encode()).rstrip(b"=").decode()


def request(query: str = "", **headers: str) -> UpgradeRequest:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return UpgradeRequest("GET", "/x", query, Fields(pairs))


def secrets_in(given: UpgradeRequest) -> bool:
    text = repr(given)
    return TICKET in text or TOKEN in text or ENCODED in text


def test_a_request_without_any_stays_as_it_is() -> None:
    given = request("a=1&&b=%20", sec_websocket_protocol="chat, v2", origin="http://x")
    assert take_out(given) == (given, Carried())


def test_a_token_where_programs_send_it() -> None:
    given = request(authorization=f"Bearer {TOKEN}")
    assert take_out(given) == (given, Carried(f"Bearer {TOKEN}"))


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (f"ticket={TICKET}", ""),
        (f"a=1&ticket={TICKET}&b=2", "a=1&b=2"),
        (f"a=1&%74icket={TICKET}", "a=1"),
        (f"tickets=1&ticket={TICKET}", "tickets=1"),
    ],
)
def test_a_ticket_in_the_query(query: str, left: str) -> None:
    stripped, carried = take_out(request(query))
    assert stripped.query == left
    assert carried.ticket is not None
    assert not secrets_in(stripped)


@pytest.mark.parametrize(
    ("offered", "left", "sentinel"),
    [
        (f"trunkline.ticket.{TICKET}, trunkline.ticket", None, "trunkline.ticket"),
        (f"trunkline.ticket.{TICKET}", None, None),
        (f"chat, trunkline.ticket.{TICKET},trunkline.ticket , v2", "chat, v2", "trunkline.ticket"),
    ],
)
def test_a_ticket_among_the_subprotocols(
    offered: str, left: str | None, sentinel: str | None
) -> None:
    stripped, carried = take_out(request(sec_websocket_protocol=offered))
    assert stripped.header(b"sec-websocket-protocol") == left
    assert carried == Carried(None, TICKET, sentinel)
    assert not secrets_in(stripped)


def test_a_ticket_in_a_header_of_its_own_line() -> None:
    given = UpgradeRequest(
        "GET", "/x", "",
        Fields([(b"sec-websocket-protocol", b"chat"),
                (b"sec-websocket-protocol", f"trunkline.ticket.{TICKET}".encode())]),
    )  # fmt: skip
    stripped, carried = take_out(given)
    assert stripped.header(b"sec-websocket-protocol") == "chat"
    assert carried.ticket == TICKET


def test_a_token_as_agentcores_clients_send_it() -> None:
    offered = f"base64UrlBearerAuthorization.{ENCODED}, base64UrlBearerAuthorization"
    stripped, carried = take_out(request(sec_websocket_protocol=offered))
    assert stripped.header(b"sec-websocket-protocol") is None
    assert carried == Carried(f"Bearer {TOKEN}", None, "base64UrlBearerAuthorization")
    assert not secrets_in(stripped)


@pytest.mark.parametrize("text", ["", "!", "a b", "_w", "4pi6", "\u00e9"])
def test_what_is_not_base64_of_a_token(text: str) -> None:
    offered = f"base64UrlBearerAuthorization.{text}"
    with pytest.raises(AuthenticationError, match="isn't a token in base64url"):
        take_out(request(sec_websocket_protocol=offered))


@pytest.mark.parametrize(
    "token", ["t\r\nx-agent-user-id: eve", "t\r\n", " t", "t\t", "t t", "t\0", "t\n", "t\x7f"]
)
def test_a_token_never_ends_a_header(token: str) -> None:
    encoded = base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()
    with pytest.raises(AuthenticationError, match="isn't a token in base64url"):
        take_out(request(sec_websocket_protocol=f"base64UrlBearerAuthorization.{encoded}"))


@pytest.mark.parametrize(
    "given",
    [
        request(f"ticket={TICKET}&ticket=tlt_other"),
        request(f"ticket={TICKET}", authorization=f"Bearer {TOKEN}"),
        request(f"ticket={TICKET}", sec_websocket_protocol=f"trunkline.ticket.{TICKET}"),
        request(
            authorization=f"Bearer {TOKEN}",
            sec_websocket_protocol=f"base64UrlBearerAuthorization.{ENCODED}",
        ),
    ],
)
def test_more_than_one_is_refused_and_not_repeated(given: UpgradeRequest) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        take_out(given)
    assert TICKET not in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_for_another_process_it_is_written_anew() -> None:
    stripped = with_ticket(request("a=1", authorization="Bearer x"), "tlt_new")
    assert (stripped.query, stripped.header(b"authorization")) == ("a=1&ticket=tlt_new", None)
    assert with_ticket(request(), "tlt_new").query == "ticket=tlt_new"
    again = with_authorization(request(authorization="Bearer x"), "Bearer y")
    assert again.header(b"authorization") == "Bearer y"
