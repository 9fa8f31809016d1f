import pytest
from hypothesis import given, strategies as st

from trunkline.agentserver._ws_messages import (
    BINARY,
    TEXT,
    FrameError,
    MessageAssembler,
    check_close_payload,
)
from trunkline.protocol.close import encode_close


@given(st.text(), st.lists(st.integers(min_value=0, max_value=200), max_size=6))
def test_text_comes_out_whole_wherever_it_was_split(text, cuts):
    data = text.encode()
    edges = sorted({min(cut, len(data)) for cut in cuts})
    parts = [data[a:b] for a, b in zip([0, *edges], [*edges, len(data)], strict=True)]
    assembler = MessageAssembler(1 << 20)
    assembler.begin(TEXT, parts[0])
    assert assembler.is_midway
    for part in parts[1:]:
        assert assembler.proceed(part, is_last=False) is None
    assert assembler.proceed(b"", is_last=True) == text
    assert not assembler.is_midway


def test_binary_is_not_looked_at():
    assembler = MessageAssembler(100)
    assembler.begin(BINARY, b"\xff")
    assert assembler.proceed(b"\xfe", is_last=True) == b"\xff\xfe"


def feed(parts):
    assembler = MessageAssembler(100)
    assembler.begin(TEXT, parts[0])
    for part in parts[1:]:
        assembler.proceed(part, is_last=False)
    assembler.proceed(b"", is_last=True)


@pytest.mark.parametrize("parts", [(b"\xff",), (b"ok", b"\xed\xa0\x80"), (b"\xe2\x82",)])
def test_bad_text_fails_wherever_it_is(parts):
    with pytest.raises(FrameError) as caught:
        feed(parts)
    assert caught.value.code == 1007


def test_bad_text_fails_before_the_message_ends():
    with pytest.raises(FrameError):
        MessageAssembler(100).begin(TEXT, b"\xff")


def test_the_limit_counts_all_fragments():
    assembler = MessageAssembler(10)
    assembler.begin(BINARY, b"x" * 6)
    with pytest.raises(FrameError, match="ws_max_message_bytes") as caught:
        assembler.proceed(b"x" * 5, is_last=False)
    assert caught.value.code == 1009


def test_fragments_of_two_messages_may_not_mix():
    assembler = MessageAssembler(10)
    with pytest.raises(FrameError, match="without a beginning"):
        assembler.proceed(b"", is_last=True)
    assembler.begin(TEXT, b"")
    with pytest.raises(FrameError, match="inside another"):
        assembler.begin(TEXT, b"")


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999])
def test_close_codes_that_may_be_received(code):
    assert check_close_payload(encode_close(code, "why")[2:]) == code


def test_no_close_code_is_1005():
    assert check_close_payload(b"") == 1005


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_close_codes_that_may_not(code):
    with pytest.raises(FrameError) as caught:
        check_close_payload(code.to_bytes(2))
    assert caught.value.code == 1002


@pytest.mark.parametrize(("payload", "expected"), [(b"\x03", 1002), (b"\x03\xe8\xff", 1007)])
def test_close_payloads_that_are_broken(payload, expected):
    with pytest.raises(FrameError) as caught:
        check_close_payload(payload)
    assert caught.value.code == expected
