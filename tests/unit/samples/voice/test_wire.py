import json

import pytest

import wire


def test_audio_message_has_rate_and_channels_in_little_endian() -> None:
    assert wire.audio_message(b"\x01\x02") == bytes.fromhex("c05d0000010000000102")


def test_event_is_one_json_object_with_its_type_first() -> None:
    assert wire.event("bot_text", text="señor") == '{"type":"bot_text","text":"señor"}'


@pytest.mark.parametrize("size", [0, 2, 960, wire.MAX_AUDIO_BYTES])
def test_whole_samples_are_taken(size: int) -> None:
    wire.check_audio(bytes(size))


@pytest.mark.parametrize(
    ("size", "code"),
    [
        (1, "odd_audio"),
        (961, "odd_audio"),
        (wire.MAX_AUDIO_BYTES + 1, "odd_audio"),
        (wire.MAX_AUDIO_BYTES + 2, "audio_too_long"),
    ],
)
def test_other_audio_is_refused(size: int, code: str) -> None:
    with pytest.raises(wire.BadMessageError) as refused:
        wire.check_audio(bytes(size))
    assert refused.value.code == code


def test_typed_words_are_stripped() -> None:
    assert wire.typed_words('{"type":"text","content":" what time is it? "}') == "what time is it?"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "invalid_json"),
        ("hello", "invalid_json"),
        ('"hello"', "invalid_json"),
        ("[" * 1_500, "invalid_json"),
        ("{}", "unknown_type"),
        ('{"type":"audio"}', "unknown_type"),
        ('{"type":["text"],"content":"a"}', "unknown_type"),
        ('{"type":"text"}', "invalid_content"),
        ('{"type":"text","content":7}', "invalid_content"),
        ('{"type":"text","content":"  "}', "invalid_content"),
        (json.dumps({"type": "text", "content": "a" * wire.MAX_TEXT_CHARS}), "text_too_long"),
    ],
)
def test_other_text_is_refused(message: str, code: str) -> None:
    with pytest.raises(wire.BadMessageError) as refused:
        wire.typed_words(message)
    assert refused.value.code == code
