import math
import random
from array import array

import pytest

np = pytest.importorskip("numpy", reason="the agent's sound needs numpy")
audio = pytest.importorskip("audio")


def tone(hertz: float, rate: int, duration_s: float = 1.0) -> bytes:
    step = 2 * math.pi * hertz / rate
    return array(
        "h", [round(10_000 * math.sin(step * at)) for at in range(int(rate * duration_s))]
    ).tobytes()


def loudness(pcm: bytes) -> float:
    middle = np.frombuffer(pcm, "<i2")[1_000:-1_000].astype(float)
    return float(np.sqrt((middle**2).mean()))


@pytest.mark.parametrize("hertz", [100, 440, 3_000, 6_000])
def test_speech_frequencies_keep_their_loudness_and_pitch(hertz: int) -> None:
    converted = audio.Downsampler().convert(tone(hertz, 24_000))
    assert loudness(converted) == pytest.approx(loudness(tone(hertz, 16_000)), rel=0.06)
    spectrum = np.abs(np.fft.rfft(np.frombuffer(converted, "<i2")[:15_900]))
    assert spectrum.argmax() * 16_000 / 15_900 == pytest.approx(hertz, abs=2)


@pytest.mark.parametrize("hertz", [9_500, 11_000])
def test_frequencies_that_do_not_fit_are_removed(hertz: int) -> None:
    assert loudness(audio.Downsampler().convert(tone(hertz, 24_000))) < 100


def test_pieces_of_any_size_give_the_same_sound() -> None:
    pcm = tone(440, 24_000)
    whole = audio.Downsampler().convert(pcm)
    dice = random.Random(1)
    pieces, converter, at = b"", audio.Downsampler(), 0
    while at < len(pcm):
        size = 2 * dice.randrange(0, 700)
        pieces += converter.convert(pcm[at : at + size])
        at += size
    difference = np.frombuffer(whole, "<i2").astype(int) - np.frombuffer(pieces, "<i2")
    assert abs(difference).max() <= 1
    assert len(whole) == len(pcm) * 2 // 3


def test_samples_and_pcm_are_inverse() -> None:
    pcm = array("h", [0, 1, -1, 32_767, -32_768, 1_234]).tobytes()
    assert audio.to_pcm(audio.to_samples(pcm)) == pcm


def test_what_is_too_loud_is_cut_off() -> None:
    pcm = audio.to_pcm(np.array([2.0, -2.0], np.float32))
    assert np.frombuffer(pcm, "<i2").tolist() == [32_767, -32_768]


def test_trim_keeps_a_little_before_and_a_rest_after() -> None:
    samples = np.zeros(24_000, np.float32)
    samples[10_000:12_000] = 0.3
    trimmed = audio.trim(samples, 24_000)
    assert len(trimmed) == 2_000 + 480 + 3_600
    assert np.flatnonzero(trimmed)[0] == 480


@pytest.mark.parametrize("length", [0, 1_000])
def test_trim_of_silence_is_nothing(length: int) -> None:
    assert len(audio.trim(np.zeros(length, np.float32), 24_000)) == 0
