import wave
from array import array
from pathlib import Path

import pytest

from caller import clips
from caller.recording import Recording


def pcm(*samples: int) -> bytes:
    return array("h", samples).tobytes()


def test_a_clip_knows_where_in_it_somebody_speaks() -> None:
    silence, speech = [20] * 2_400, [9_000, -9_000] * 2_400
    clip = clips._clip("hello", "person", array("h", silence + speech + silence))
    assert clip.speech_begins_s == pytest.approx(0.1)
    assert clip.speech_ends_s == pytest.approx(0.3)
    assert len(clip.pcm) == 2 * 9_600


def test_a_recording_is_brought_to_the_calls_rate() -> None:
    samples = clips._at_24k(array("h", [0, 300, 600, 900]))
    assert list(samples) == [0, 200, 400, 600]


def test_people_are_found_only_if_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips, "_RECORDINGS", tmp_path)
    assert clips.recorded() == []
    (tmp_path / "goforward.raw").write_bytes(pcm(*[5_000] * 1_600))
    [clip] = clips.recorded()
    assert (clip.words, clip.source) == ("go forward ten meters", "person")


def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(clips.ClipsError, match="no such thing"):
        clips._run("sh", "-c", "echo no such thing >&2; exit 3")


def test_both_sides_are_on_one_time_line(tmp_path: Path) -> None:
    recording = Recording()
    recording.caller_said(pcm(1, 2))
    recording.agent_said(pcm(7, 8, 9))
    recording.caller_said(pcm(3, 4, 5, 6))
    recording.agent_said(pcm(10))
    recording.write(tmp_path / "call.wav")
    assert frames(tmp_path / "call.wav") == [
        (1, 0), (2, 0), (3, 7), (4, 8), (5, 9), (6, 0), (0, 10)
    ]  # fmt: skip


def test_what_was_not_played_when_interrupted_is_thrown_away(tmp_path: Path) -> None:
    recording = Recording()
    recording.caller_said(pcm(1))
    recording.agent_said(pcm(7, 8, 9))
    recording.caller_said(pcm(2))
    recording.agent_interrupted()
    recording.write(tmp_path / "call.wav")
    assert frames(tmp_path / "call.wav") == [(1, 0), (2, 7)]


def frames(path: Path) -> list[tuple[int, int]]:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, 24_000)
        samples = array("h", file.readframes(file.getnframes()))
    return list(zip(samples[0::2], samples[1::2], strict=True))
