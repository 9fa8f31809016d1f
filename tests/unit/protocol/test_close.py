"""Close codes in words and as frames."""

import pytest

from trunkline.protocol.close import CloseCode, CloseInfo, answer_to, encode_close, explain


def test_a_close_frame_is_code_and_reason() -> None:
    assert encode_close(1009, "big") == b"\x88\x05\x03\xf1big"


def test_a_masked_close_frame_unmasks_to_the_same() -> None:
    data = encode_close(1001, "bye", mask=b"abcd")
    assert data[:6] == b"\x88\x85abcd"
    assert bytes(b ^ b"abcd"[i % 4] for i, b in enumerate(data[6:])) == b"\x03\xe9bye"


def test_a_long_reason_is_cut_between_characters() -> None:
    data = encode_close(1000, "é" * 100)
    assert len(data) == 2 + 2 + 122
    assert data[4:].decode() == "é" * 61


@pytest.mark.parametrize("code", list(CloseCode))
def test_every_code_has_words(code: CloseCode) -> None:
    assert "known here" not in explain(code)


def test_other_codes_are_told_apart() -> None:
    assert "application" in explain(4001)
    assert "known here" in explain(2999)


def test_a_payload_of_one_byte_has_no_status() -> None:
    assert CloseInfo.from_payload(b"\x03") == CloseInfo(CloseCode.NO_STATUS, "")


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1014, 3000, 4999])
def test_a_close_is_answered_with_its_own_code(code: int) -> None:
    assert answer_to(code) == code


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 1016, 2999, 5000, 65535])
def test_a_code_that_nobody_may_send_is_not_sent_back(code: int) -> None:
    assert answer_to(code) == CloseCode.PROTOCOL_ERROR


def test_a_close_without_a_code_is_answered_as_a_normal_one() -> None:
    assert answer_to(CloseCode.NO_STATUS) == CloseCode.NORMAL
