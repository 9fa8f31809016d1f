"""record, replay and load, against a stand-in for a platform."""

import json
import wave
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.integration.cli.conftest import FakePlatform, Run
from trunkline.cli.exits import ExitCode
from trunkline.recordings.format import BINARY, CLOSE, TEXT, read_recording


@pytest.fixture
def call(cli: Run, tmp_path: Path) -> Path:
    """A recorded call: two texts to an agent that shouts."""
    path = tmp_path / "call.trk"
    done = cli("record", str(path), "echo", "--linger-s", "0.2", stdin=b'hello\n{"a":1}\n')
    assert done.code == 0
    assert done.out == 'HELLO\n{"A":1}\n'
    assert f"recorded 6 frames in {path}" in done.err
    return path


def test_a_recording_has_every_frame(call: Path, platform: FakePlatform) -> None:
    recording = read_recording(call)
    frames = [
        (record.opcode, record.from_agent, record.payload)
        for record in recording.records
        if record.opcode in (TEXT, BINARY, CLOSE)
    ]
    assert frames.count((TEXT, False, b"hello")) == 1
    assert sorted(frames) == sorted(
        [
            (TEXT, False, b"hello"),
            (TEXT, True, b"HELLO"),
            (TEXT, False, b'{"a":1}'),
            (TEXT, True, b'{"A":1}'),
            (CLOSE, False, b"\x03\xe8"),
            (CLOSE, True, b"\x03\xe8"),
        ]
    )
    assert recording.header["agent"] == "echo"
    assert recording.header["endpoint"] == platform.url
    assert b"token" not in call.read_bytes()


@pytest.mark.parametrize("options", [(), ("--fast",)])
def test_the_same_agent_makes_no_difference(cli: Run, call: Path, options: tuple[str, ...]) -> None:
    done = cli("replay", str(call), "echo", "--linger-s", "0.3", *options)
    assert (done.code, done.out) == (0, "no difference\n")
    assert "sent 2 of 2 messages" in done.err
    assert ("late at the median" in done.err) is (not options)


def test_another_agent_makes_one(cli: Run, call: Path, tmp_path: Path) -> None:
    junit = tmp_path / "replay.xml"
    done = cli("replay", str(call), "leaver", "--linger-s", "0.3", "--junit", str(junit))
    assert done.code == ExitCode.DIFFERENT
    assert "changed message 1" in done.out
    assert "HELLO" in done.out
    assert "$.A is gone: it was 1" in done.out
    assert done.out.endswith("2 differences\n")
    (suite,) = ET.fromstring(junit.read_text())
    assert suite.attrib["failures"] == "2"
    again = cli(
        "replay", str(call), "leaver", "--linger-s", "0.3", "--fast", "--output", "json"
    ).json
    assert (again["agent"], again["sent"], again["received"], again["recorded"]) == (
        "leaver", 2, 2, 2,
    )  # fmt: skip
    assert again["late_ms"] == {}
    assert again["close"] == again["recorded_close"] == {"code": 1000, "reason": ""}
    first, second = again["differences"]
    assert (first["kind"], first["message"]) == ("changed", 1)
    assert first["recorded"]["message"] == "HELLO"
    assert first["received"]["message"] == "hello"
    assert second["detail"] == ["$.A is gone: it was 1", "$.a is new: 1"]


def test_a_close_that_differs(cli: Run, call: Path) -> None:
    done = cli("replay", str(call), "closer", "--linger-s", "0.2", "--ignore", "$.A")
    assert done.code == ExitCode.DIFFERENT
    assert "closed with 4001 enough: it was 1000" in done.out


def test_a_matcher_of_ones_own(cli: Run, call: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.py"
    rules.write_text(
        "def match(recorded, received):\n"
        "    if [m.lower() for m in recorded] != [m.lower() for m in received]:\n"
        "        yield 'other words'\n"
        "def fussy(recorded, received):\n"
        "    return ['never good enough']\n"
        "def broken(recorded, received):\n"
        "    return 1 / 0\n"
    )
    replay = ("replay", str(call), "leaver", "--linger-s", "0.2", "--fast", "--matcher")
    assert cli(*replay, str(rules)).code == 0
    done = cli(*replay, f"{rules}:fussy")
    assert done.code == ExitCode.DIFFERENT
    assert "never good enough" in done.out
    done = cli(*replay, f"{rules}:broken")
    assert done.code == ExitCode.USAGE
    assert "broken in" in done.err
    assert "ZeroDivisionError" in done.err
    assert "has no function other" in cli(*replay, f"{rules}:other").err
    assert "there is no file" in cli(*replay, "nowhere.py").err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--ignore", "a b"), "isn't a path"),
        (("--audio", "mp3"), "isn't a form of sound"),
    ],
)
def test_rules_that_are_wrong(cli: Run, call: Path, options: tuple[str, ...], said: str) -> None:
    done = cli("replay", str(call), "echo", *options)
    assert done.code == ExitCode.USAGE
    assert said in done.err


def test_files_that_are_no_recordings(cli: Run, tmp_path: Path) -> None:
    for command in ("replay", "load"):
        wrong = tmp_path / "wrong.trk"
        wrong.write_bytes(b"RIFF")
        done = cli(command, str(wrong), "echo")
        assert done.code == ExitCode.USAGE
        assert "isn't a recording" in done.err
        assert "trunkline record" in done.err
        done = cli(command, str(tmp_path / "none.trk"), "echo")
        assert done.code == ExitCode.FAILED
        assert "none.trk" in done.err


def test_a_recording_that_ends_early_is_played(cli: Run, call: Path) -> None:
    data = call.read_bytes()
    call.write_bytes(data[:-3])
    done = cli("replay", str(call), "echo", "--linger-s", "0.2")
    assert done.code == 0
    assert "ends in the middle of a frame" in done.err


def test_load(cli: Run, call: Path, tmp_path: Path, platform: FakePlatform) -> None:
    plot = tmp_path / "plot.svg"
    done = cli(
        "load", str(call), "echo", "--sessions", "20", "--plot", str(plot), "--linger-s", "0.5",
        "--output", "json",
    )  # fmt: skip
    assert done.code == 0
    said = done.json
    assert (said["sessions"], said["connected"], said["messages"]) == (20, 20, 40)
    assert said["closes"] == {"1000": 20}
    assert (said["errors"], said["differing"]) == ({}, 0)
    for name in ("connect_ms", "answer_ms", "late_ms", "send_late_ms"):
        assert list(said[name]) == ["p50", "p90", "p95", "p99", "max"]
    assert plot.read_text().startswith("<svg")
    assert len(platform.deleted_sessions) == 20


def test_load_for_people(cli: Run, call: Path, platform: FakePlatform) -> None:
    done = cli("load", str(call), "leaver", "-n", "3", "--linger-s", "0.2", "--keep")
    assert done.code == ExitCode.DIFFERENT
    assert "P50" in done.out
    assert "3 of 3 sessions, 6 messages" in done.out
    assert "3 sessions said something else than the recording" in done.out
    assert platform.deleted_sessions == []
    done = cli("load", str(call), "nobody", "-n", "3")
    assert done.code == ExitCode.FAILED
    assert "failed: 3 with 404 agent_not_found" in done.out


def test_a_wav_goes_out_and_comes_in(cli: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    with wave.open(str(source), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(range(250)) * 8)
    done = cli(
        "connect", "echo", "--wav", str(source), "--out-wav", str(target), "--linger-s", "0.2",
        "--output", "json",
    )  # fmt: skip
    assert done.code == 0
    with wave.open(str(target)) as file:
        assert file.getframerate() == 16000
        assert file.readframes(10_000) == bytes(range(250)) * 8
    sizes = [
        len(line["base64"]) for line in map(json.loads, done.out.splitlines())
        if line["direction"] == "sent" and line["type"] == "binary"
    ]  # fmt: skip
    assert len(sizes) == 4
    assert "isn't a WAV file" in cli("connect", "echo", "--wav", __file__).err


def test_lines_of_other_kinds(cli: Run) -> None:
    done = cli("connect", "echo", "--lines", "json", "--linger-s", "0.2", stdin=b'{"a": 1}\n\n')
    assert done.out == '{"A": 1}\n'
    done = cli("connect", "echo", "--lines", "json", stdin=b"{a}\n")
    assert done.code == ExitCode.USAGE
    assert "isn't JSON" in done.err
    done = cli(
        "connect", "echo", "--lines", "hex", "--hex", "--linger-s", "0.2", stdin=b"41 42ff\n"
    )
    assert done.code == 0
    sent, bytes_sent, received, bytes_received = done.out.splitlines()
    assert sent.split()[1:] == [">", "3", "bytes"]
    assert received.split()[1:] == ["<", "3", "bytes"]
    assert bytes_sent == bytes_received
    assert bytes_sent.split() == ["000000", "41", "42", "ff", "AB."]
    done = cli("connect", "echo", "--lines", "hex", stdin=b"4\n")
    assert "isn't hexadecimal" in done.err


def test_timestamps_show_both_sides(cli: Run) -> None:
    done = cli("connect", "echo", "-T", "--linger-s", "0.2", stdin=b"hi\n")
    assert [line.split()[1:] for line in done.out.splitlines()] == [[">", "hi"], ["<", "HI"]]


def test_a_lost_connection_is_made_again(cli: Run) -> None:
    done = cli(
        "connect", "leaver", "--reconnect", "--linger-s", "0.5", "--output", "json",
        stdin=b"restart\n",
    )  # fmt: skip
    assert done.code == 0
    assert "connected again" in done.err
    kinds = [line.get("code") for line in map(json.loads, done.out.splitlines())]
    assert 1001 in kinds
    assert kinds[-1] == 1000


def test_a_machine_without_sound_says_so(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    done = cli("connect", "echo", "--mic")
    assert done.code == ExitCode.FAILED
    assert "this machine has no microphone: none of parec, arecord, rec is installed" in done.err
    done = cli("connect", "echo", "--speaker")
    assert "no loudspeaker" in done.err


@pytest.mark.parametrize(
    "options", [("--mic", "--wav", "x.wav"), ("--out", "x", "--out-wav", "y"), ("--rate", "1")]
)
def test_options_that_contradict_each_other(cli: Run, options: tuple[str, ...]) -> None:
    assert cli("connect", "echo", *options).code == ExitCode.USAGE


def test_an_address_is_as_good_as_a_name(cli: Run, platform: FakePlatform) -> None:
    address = f"{platform.url}/agents/echo/endpoint/protocols/invocations_ws?api-version=v1"
    done = cli("connect", address, "--linger-s", "0.2", stdin=b"hi\n")
    assert (done.code, done.out) == (0, "HI\n")
