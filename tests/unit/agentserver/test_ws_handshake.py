from http import HTTPStatus

import pytest

from trunkline.agentserver import _ws_handshake as handshake

# The example of RFC 6455 section 1.3.
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def head(target=b"/invocations_ws?a=%20b", method=b"GET", **fields):
    values = {
        b"host": b"x",
        b"upgrade": b"websocket",
        b"connection": b"keep-alive, Upgrade",
        b"sec-websocket-version": b"13",
        b"sec-websocket-key": KEY,
    }
    values.update({name.replace("_", "-").encode(): value for name, value in fields.items()})
    lines = [name + b": " + value for name, value in values.items() if value is not None]
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", *lines]) + b"\r\n\r\n"


def test_a_request_is_read():
    request = handshake.UpgradeRequest.parse(head(sec_websocket_protocol=b"chat, superchat"))
    assert request.path == "/invocations_ws"
    assert request.query == b"a=%20b"
    assert request.key == KEY
    assert request.subprotocols == ["chat", "superchat"]
    assert (b"host", b"x") in request.headers


def test_an_escaped_path_is_unescaped_once():
    request = handshake.UpgradeRequest.parse(head(target=b"/a%252F%C3%A4"))
    assert request.path == "/a%2Fä"
    assert request.raw_path == b"/a%252F%C3%A4"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sec_websocket_version": b"8"}, HTTPStatus.UPGRADE_REQUIRED),
        ({"sec_websocket_version": None}, HTTPStatus.UPGRADE_REQUIRED),
        ({"sec_websocket_key": None}, HTTPStatus.BAD_REQUEST),
        ({"sec_websocket_key": b"c2hvcnQ="}, HTTPStatus.BAD_REQUEST),
        ({"sec_websocket_key": b"not base64!"}, HTTPStatus.BAD_REQUEST),
        ({"method": b"POST"}, HTTPStatus.METHOD_NOT_ALLOWED),
        ({"target": b"http://["}, HTTPStatus.BAD_REQUEST),
    ],
)
def test_what_is_no_handshake_is_refused(changes, status):
    with pytest.raises(handshake.BadHandshakeError) as caught:
        handshake.UpgradeRequest.parse(head(**changes))
    assert caught.value.status == status


def test_the_answer_proves_that_the_key_was_read():
    answer = handshake.switching_protocols(KEY, "chat", [(b"x-request-id", b"7")])
    assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nsec-websocket-accept: " + ACCEPT + b"\r\n" in answer
    assert b"\r\nsec-websocket-protocol: chat\r\n" in answer
    assert answer.endswith(b"\r\nx-request-id: 7\r\n\r\n")
    assert b"extensions" not in answer


def test_a_refusal_ends_the_connection_and_has_a_length():
    answer = handshake.refusal(404, [(b"Content-Length", b"9"), (b"a", b"b")], b"no")
    first, _, body = answer.partition(b"\r\n\r\n")
    assert first.split(b"\r\n") == [
        b"HTTP/1.1 404 Not Found",
        b"a: b",
        b"content-length: 2",
        b"connection: close",
    ]
    assert body == b"no"


def test_an_unknown_version_is_told_the_known_one():
    answer = handshake.plain_refusal(HTTPStatus.UPGRADE_REQUIRED, "no")
    assert b"\r\nsec-websocket-version: 13\r\n" in answer


def test_a_header_cannot_smuggle_another():
    with pytest.raises(ValueError, match="line break"):
        handshake.refusal(400, [(b"a", b"b\r\nc: d")], b"")


def test_any_status_may_be_a_refusal():
    assert handshake.refusal(499, [], b"").startswith(b"HTTP/1.1 499 \r\n")
