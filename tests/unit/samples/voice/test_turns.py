import pytest

from turns import (
    CHUNK_BYTES,
    CHUNK_MS,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
    TurnDetector,
    TurnEvent,
    TurnRules,
)

SPEECH, SOFT, SILENCE = 0.9, 0.4, 0.1
ONSET, PAUSE, WHOLE, ENDPOINT, PRE_ROLL = 3, 2, 10, 15, 11


def feed(
    detector: TurnDetector, probability: float, count: int, first: int = 0
) -> list[tuple[int, TurnEvent]]:
    """Send ``count`` chunks; return each event with the number of the chunk that caused it."""
    found: list[tuple[int, TurnEvent]] = []
    for number in range(first, first + count):
        chunk = number.to_bytes(2, "little") * (CHUNK_BYTES // 2)
        found += [(number, event) for event in detector.receive_chunk(chunk, probability)]
    return found


def numbers(audio: bytes) -> list[int]:
    return [
        int.from_bytes(audio[at : at + 2], "little") for at in range(0, len(audio), CHUNK_BYTES)
    ]


def speaking(count: int = ONSET) -> TurnDetector:
    detector = TurnDetector(TurnRules())
    feed(detector, SPEECH, count)
    return detector


def test_silence_is_no_turn() -> None:
    assert feed(TurnDetector(TurnRules()), SILENCE, 1_000) == []


def test_a_turn_begins_when_speech_has_lasted_the_onset() -> None:
    assert feed(TurnDetector(TurnRules()), SPEECH, 10) == [(ONSET - 1, SpeechStarted())]


def test_a_click_is_no_turn() -> None:
    detector = TurnDetector(TurnRules())
    for _ in range(20):
        assert feed(detector, SPEECH, ONSET - 1) == []
        assert feed(detector, SILENCE, 1) == []


def test_soft_sound_does_not_begin_a_turn_and_does_not_end_one() -> None:
    assert feed(TurnDetector(TurnRules()), SOFT, 100) == []
    assert feed(speaking(), SOFT, 100) == []


def test_pause_and_end_come_after_their_silences() -> None:
    events = feed(speaking(), SILENCE, ENDPOINT, first=100)
    assert [(number, type(event)) for number, event in events] == [
        (100 + PAUSE - 1, SpeechPaused),
        (100 + ENDPOINT - 1, SpeechStopped),
    ]


def test_the_end_tells_how_long_ago_the_last_speech_was() -> None:
    [*_, (_, stopped)] = feed(speaking(), SILENCE, ENDPOINT)
    assert isinstance(stopped, SpeechStopped)
    assert stopped.silence_ms == 480


def test_the_turn_has_the_sound_from_before_it_and_all_after() -> None:
    detector = TurnDetector(TurnRules())
    feed(detector, SILENCE, 50)
    feed(detector, SPEECH, ONSET + 2, first=50)
    events = feed(detector, SILENCE, ENDPOINT, first=50 + ONSET + 2)
    paused, stopped = [event for _, event in events]
    assert isinstance(paused, SpeechPaused)
    assert isinstance(stopped, SpeechStopped)
    assert numbers(paused.audio) == list(range(50 - PRE_ROLL, 50 + ONSET + 2 + PAUSE))
    assert numbers(stopped.audio) == list(range(50 - PRE_ROLL, 50 + ONSET + 2 + ENDPOINT))


def test_speech_after_a_pause_takes_the_pause_back_and_may_pause_again() -> None:
    detector = speaking()
    assert len(feed(detector, SILENCE, PAUSE)) == 1
    assert feed(detector, SPEECH, 5, first=10) == [(10, SpeechResumed())]
    events = feed(detector, SILENCE, ENDPOINT)
    assert [type(event) for _, event in events] == [SpeechPaused, SpeechStopped]


def test_a_gap_shorter_than_a_pause_is_not_mentioned() -> None:
    detector = speaking()
    assert feed(detector, SILENCE, PAUSE - 1) == []
    assert feed(detector, SPEECH, 5) == []


def test_a_new_turn_needs_a_new_onset() -> None:
    detector = speaking()
    feed(detector, SILENCE, ENDPOINT)
    assert not detector.is_speaking
    assert feed(detector, SPEECH, ONSET) == [(ONSET - 1, SpeechStarted())]


def test_an_endless_turn_is_ended() -> None:
    rules = TurnRules(longest_turn_ms=100 * CHUNK_MS)
    events = feed(TurnDetector(rules), SPEECH, 250)
    assert [type(event) for _, event in events] == [
        SpeechStarted, SpeechStopped, SpeechStarted, SpeechStopped, SpeechStarted
    ]  # fmt: skip
    assert all(
        len(event.audio) <= 100 * CHUNK_BYTES
        for _, event in events
        if isinstance(event, SpeechStopped)
    )


@pytest.mark.parametrize(("silence_ms", "chunks"), [(32, 1), (33, 2), (288, 9), (640, 20)])
def test_times_are_rounded_up_to_whole_chunks(silence_ms: int, chunks: int) -> None:
    detector = TurnDetector(TurnRules(endpoint_silence_ms=silence_ms))
    feed(detector, SPEECH, ONSET)
    [*_, (number, stopped)] = feed(detector, SILENCE, chunks)
    assert number == chunks - 1
    assert isinstance(stopped, SpeechStopped)


def test_an_endpoint_before_the_pause_ends_without_one() -> None:
    detector = TurnDetector(TurnRules(endpoint_silence_ms=32))
    feed(detector, SPEECH, ONSET)
    assert [type(event) for _, event in feed(detector, SILENCE, 1)] == [SpeechStopped]


def test_a_whole_request_ends_after_a_shorter_silence() -> None:
    detector = speaking()
    feed(detector, SILENCE, PAUSE)
    detector.expect_no_more()
    [(number, stopped)] = feed(detector, SILENCE, ENDPOINT, first=PAUSE)
    assert number == WHOLE - 1
    assert isinstance(stopped, SpeechStopped)
    assert stopped.silence_ms == 320
    # The next turn is another one.
    feed(detector, SPEECH, ONSET)
    assert feed(detector, SILENCE, ENDPOINT)[-1][0] == ENDPOINT - 1


def test_what_is_known_late_ends_the_turn_at_once() -> None:
    detector = speaking()
    feed(detector, SILENCE, WHOLE + 1)
    detector.expect_no_more()
    [(_, stopped)] = feed(detector, SILENCE, 1)
    assert isinstance(stopped, SpeechStopped)
    assert stopped.silence_ms == (WHOLE + 2) * CHUNK_MS


def test_who_goes_on_has_not_said_it_all() -> None:
    detector = speaking()
    feed(detector, SILENCE, PAUSE)
    detector.expect_no_more()
    feed(detector, SPEECH, 5)
    assert feed(detector, SILENCE, ENDPOINT)[-1][0] == ENDPOINT - 1
    # It is said too late, or of another pause: there is none at the moment.
    detector = speaking()
    detector.expect_no_more()
    assert feed(detector, SILENCE, ENDPOINT)[-1][0] == ENDPOINT - 1


def test_a_whole_request_is_never_waited_for_longer() -> None:
    detector = TurnDetector(TurnRules(endpoint_silence_ms=288, whole_silence_ms=320))
    feed(detector, SPEECH, ONSET)
    feed(detector, SILENCE, PAUSE)
    detector.expect_no_more()
    assert feed(detector, SILENCE, 9, first=PAUSE)[-1][0] == 8
