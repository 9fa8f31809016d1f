"""The commands against a stand-in for a platform."""

import io
import json
import zipfile
from pathlib import Path

import pytest

from tests.integration.cli.conftest import FakePlatform, Run

AGENT_YAML = """\
kind: hosted
name: echo
protocols:
  - protocol: invocations_ws
    version: 1.0.0
environment_variables:
  - name: GREETING
    value: ${GREETING}
"""


def log(message: str, offset: int) -> bytes:
    record = {
        "timestamp": "2026-01-01T10:00:00Z",
        "stream": "stdout",
        "message": message,
        "offset": offset,
    }
    return f"event: log\ndata: {json.dumps(record)}\n\n".encode()


@pytest.fixture
def agent_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "agent.yaml").write_text(AGENT_YAML)
    (folder / "main.py").write_text("print('hi')\n")
    return folder


class TestDeploy:
    def test_prints_name_version_and_endpoint(
        self, cli: Run, platform: FakePlatform, agent_dir: Path
    ) -> None:
        done = cli("deploy", str(agent_dir))
        assert done.code == 0, done.err
        url = platform.url.replace("http", "ws", 1)
        assert done.out == (
            f"echo 3 {url}/agents/echo/endpoint/protocols/invocations_ws?api-version=v1\n"
        )
        assert "building version 3" in done.err
        assert "note: Python 3.12 was taken" in done.err
        assert "GREETING isn't set" in done.err
        ((description, code),) = platform.uploads
        assert description["definition"]["environment_variables"] == {"GREETING": ""}
        assert zipfile.ZipFile(io.BytesIO(code)).namelist() == ["main.py"]

    def test_fills_in_the_environment(
        self, cli: Run, platform: FakePlatform, agent_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(agent_dir)
        assert cli("env", "set", "GREETING=hello world").code == 0
        done = cli("deploy", "--output", "json")
        assert done.code == 0, done.err
        assert done.json["status"] == "active"
        assert done.json["agent_endpoints"]["invocations_ws"].startswith("ws://127.0.0.1:")
        assert "isn't set" not in done.err
        variables = platform.uploads[0][0]["definition"]["environment_variables"]
        assert variables == {"GREETING": "hello world"}

    def test_a_failed_build_shows_its_log(
        self, cli: Run, platform: FakePlatform, agent_dir: Path
    ) -> None:
        platform.build_fails = True
        done = cli("deploy", str(agent_dir))
        assert done.code == 1
        assert done.out == ""
        assert "build line 59" in done.err
        assert "build line 19\n" not in done.err
        assert "version 3 of echo couldn't be built: numpie isn't a package" in done.err

    def test_a_bad_agent_yaml_is_told_in_the_manifests_words(
        self, cli: Run, platform: FakePlatform, agent_dir: Path
    ) -> None:
        (agent_dir / "agent.yaml").write_text(AGENT_YAML.replace("protocols:", "protocls:"))
        done = cli("deploy", str(agent_dir))
        assert done.code == 2
        assert "agent.yaml:3" in done.err
        assert platform.uploads == []

    def test_no_agent_yaml(self, cli: Run) -> None:
        done = cli("deploy")
        assert done.code == 2
        assert "holds no agent file" in done.err


class TestConnect:
    def test_lines_to_frames_to_lines(self, cli: Run) -> None:
        done = cli("connect", "echo", "--linger-s", "0.2", stdin="hello\nwörld\n".encode())
        assert (done.code, done.out) == (0, "HELLO\nWÖRLD\n")
        assert "session s-ws" in done.err
        assert "closed 1000: the conversation ended normally" in done.err

    def test_comes_back_to_a_session(self, cli: Run) -> None:
        done = cli("connect", "echo", "--session-id", "mine", "--linger-s", "0")
        assert done.code == 0
        assert "session mine" in done.err

    def test_sends_a_file_and_keeps_what_comes_back(self, cli: Run, tmp_path: Path) -> None:
        sound, heard = tmp_path / "in.pcm", tmp_path / "out.pcm"
        sound.write_bytes(bytes(range(256)) * 10)
        done = cli(
            *("connect", "echo", "--send-file", str(sound), "--frame-bytes", "640"),
            *("--interval-ms", "1", "--out", str(heard), "--linger-s", "0.2"),
        )
        assert (done.code, done.out) == (0, "")
        assert heard.read_bytes() == sound.read_bytes()
        assert "received 4 binary frames, 2560 bytes" in done.err

    def test_a_file_from_stdin(self, cli: Run, tmp_path: Path) -> None:
        heard = tmp_path / "out"
        done = cli(
            *("connect", "echo", "--send-file", "-", "--out", str(heard), "--linger-s", "0.2"),
            stdin=b"\xff\x00",
        )
        assert done.code == 0
        assert heard.read_bytes() == b"\xff\x00"

    def test_json(self, cli: Run) -> None:
        done = cli("connect", "echo", "-o", "json", "--linger-s", "0.2", stdin=b"hi\n")
        frames = [json.loads(line) for line in done.out.splitlines()]
        assert [(f["direction"], f["type"], f.get("text")) for f in frames] == [
            ("sent", "text", "hi"),
            ("received", "text", "HI"),
            ("received", "close", None),
        ]
        assert frames[-1]["code"] == 1000

    def test_another_close_code_is_an_exit_code(self, cli: Run) -> None:
        done = cli("connect", "closer", stdin=b"")
        assert (done.code, done.out) == (3, "bye\n")
        assert "closed 4001: the application's own code (enough)" in done.err

    def test_a_refused_upgrade(self, cli: Run) -> None:
        done = cli("connect", "nobody")
        assert done.code == 1
        assert done.err == "error: no agent 'nobody': `trunkline list` shows the agents there are\n"

    def test_a_session_that_didnt_start_can_be_monitored(
        self, cli: Run, platform: FakePlatform
    ) -> None:
        done = cli("connect", "broken")
        assert done.code == 1
        assert "`trunkline monitor broken` shows why" in done.err
        platform.log_answers = [log("ImportError", 1)]
        done = cli("monitor", "broken")
        assert "(session: s-broken)" in done.err
        assert "ImportError" in done.out

    @pytest.mark.parametrize("sid", ["", "a b", "x" * 257])
    def test_a_bad_session_id(self, cli: Run, sid: str) -> None:
        done = cli("connect", "echo", "--session-id", sid)
        assert done.code == 2
        assert "can't be a session's id" in done.err

    def test_binary_on_stdin_ends_it_well(self, cli: Run) -> None:
        done = cli("connect", "echo", stdin=b"\xff\xff\n")
        assert done.code == 2
        assert "--send-file" in done.err

    def test_a_missing_file_is_told_before_connecting(self, cli: Run) -> None:
        done = cli("connect", "echo", "--send-file", "nowhere.wav")
        assert done.code == 1
        assert "nowhere.wav" in done.err
        assert "session" not in done.err


class TestInvoke:
    def test_json_and_text(self, cli: Run) -> None:
        done = cli("invoke", "echo", '{"a": 1}', "--session-id", "s9")
        assert done.code == 0
        assert json.loads(done.out) == {
            "type": "application/json",
            "body": '{"a": 1}',
            "session": "s9",
        }
        *ids, timing = done.err.splitlines()
        assert ids == ["session s-invoke", "invocation i-1"]
        assert timing.startswith("Server responded in ")
        assert "(first byte: " in timing
        assert json.loads(cli("invoke", "echo", "plain").out)["type"] == "text/plain"

    def test_a_file(self, cli: Run, tmp_path: Path) -> None:
        path = tmp_path / "body.json"
        path.write_text("[1]")
        assert json.loads(cli("invoke", "echo", "-f", str(path)).out)["body"] == "[1]"
        assert cli("invoke", "echo", "x", "-f", str(path)).code == 2

    def test_as_json(self, cli: Run) -> None:
        done = cli("invoke", "echo", "hi", "-o", "json").json
        assert done["session_id"] == "s-invoke"
        assert done["body"]["body"] == "hi"

    def test_a_refusal(self, cli: Run) -> None:
        done = cli("invoke", "broken", "hi")
        assert (done.code, done.out) == (1, "")
        assert "it isn't up" in done.err


class TestMonitor:
    def test_the_session_used_last_from_here(self, cli: Run, platform: FakePlatform) -> None:
        cli("invoke", "echo", "x")
        platform.log_answers = [log("hello", 10)]
        done = cli("monitor", "echo", "--utc", "--tail", "9", "--type", "system")
        assert done.code == 0
        assert done.out == "10:00:00  stdout   hello\n"
        assert "Streaming session logs for echo (session: s-invoke)..." in done.err
        query = platform.log_requests[0].query_params
        assert (query["tail"], query["kind"], query["follow"]) == ("9", "system", "false")

    def test_else_the_session_used_last(self, cli: Run, platform: FakePlatform) -> None:
        platform.log_answers = [b""]
        assert "(session: new)" in cli("monitor", "echo").err

    def test_no_session_at_all(self, cli: Run) -> None:
        done = cli("monitor", "idle")
        assert done.code == 1
        assert "start one with `trunkline connect idle`" in done.err

    def test_follows_across_a_lost_connection(self, cli: Run, platform: FakePlatform) -> None:
        platform.log_answers = [log("one", 10), log("two", 20)]
        done = cli("monitor", "echo", "-s", "s1", "--follow", "--utc")
        assert [line.split()[-1] for line in done.out.splitlines()] == ["one", "two"]
        assert [r.query_params.get("after") for r in platform.log_requests] == [None, "10", "20"]
        assert done.code == 1
        assert "the session is gone" in done.err

    def test_raw_and_json(self, cli: Run, platform: FakePlatform) -> None:
        platform.log_answers = [b": hi\n\n" + log("a", 1), log("a", 1)]
        assert cli("monitor", "echo", "-s", "s1", "--raw").out == log("a", 1).decode()
        assert cli("monitor", "echo", "-s", "s1", "-o", "json").json["event"] == "log"


class TestAgentsAndSessions:
    def test_list(self, cli: Run, platform: FakePlatform) -> None:
        lines = cli("list").out.splitlines()
        assert lines[0].split() == ["NAME", "VERSION", "STATUS", "PROTOCOLS", "RUNNING"]
        assert lines[1].split() == ["echo", "3", "active", "invocations_ws", "2"]
        assert cli("list", "-o", "json").json[0]["name"] == "echo"
        assert all(token.startswith("Bearer ey") for token in platform.tokens)

    def test_the_environments_token_comes_first(
        self, cli: Run, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TRUNKLINE_TOKEN", "given")
        cli("list")
        assert platform.tokens == ["Bearer given"]

    def test_show(self, cli: Run) -> None:
        done = cli("show", "echo")
        assert "Endpoint (invocations_ws)" in done.out
        document = cli("show", "echo", "-o", "json").json
        assert document["version"] == "3"
        assert "next_step" not in document

    def test_show_nobody(self, cli: Run) -> None:
        done = cli("show", "nobody")
        assert (done.code, done.out) == (1, "")

    def test_sessions(self, cli: Run) -> None:
        lines = cli("sessions", "list", "echo").out.splitlines()
        assert [line.split()[0] for line in lines] == ["SESSION", "old", "new"]
        assert len(cli("sessions", "list", "echo", "--limit", "1", "-o", "json").json) == 1
        assert "version_ref" in cli("sessions", "show", "echo", "s1").out
        assert "starts one" in cli("sessions", "list", "idle").err


def test_nothing_answers(cli: Run) -> None:
    for words in (["list"], ["connect", "echo"], ["invoke", "echo"], ["monitor", "echo"]):
        done = cli(*words, "--endpoint", "http://127.0.0.1:9/api/projects/default")
        assert done.code == 1
        assert done.err == (
            "error: nothing answers at http://127.0.0.1:9: start it with `trunkline up`, or name "
            "another platform with --endpoint\n"
        )


def test_environments(cli: Run) -> None:
    assert cli("env", "set", "A", "1").code == 0
    assert cli("env", "set", "A=b c").code == 0
    assert cli("env", "get-values").out == 'A="b c"\n'
    assert cli("env", "select", "prod").code == 0
    assert cli("env", "get-values", "-o", "json").json == {}
    assert cli("env", "get-values", "-e", "dev", "-o", "json").json == {"A": "b c"}
    assert cli("env", "list").out == "  dev\n* prod\n"
    assert cli("env", "set", "nonsense").code == 2


def test_why(cli: Run, platform: FakePlatform) -> None:
    said = cli("why", "echo", "--session-id", "s")
    assert (said.code, said.out) == (0, "")
    assert "no connection to echo has ended in session s" in said.err
    end = {
        "object": "connection",
        "closed_at": "2026-01-01T10:03:12.000000Z",
        "closed_by": "limit",
        "code": 1013,
        "reason": "the client read nothing for 30 s (stalled_reader_s)",
        "limit": {
            "name": "stalled_reader_s",
            "setting": "TRUNKLINE_GATEWAY_STALLED_READER_S",
            "value": 30,
        },
        "age_s": 192.4,
        "in": {"frames": 1, "bytes": 29, "quiet_s": 191.0},
        "out": {"frames": 8214, "bytes": 13_107_200, "quiet_s": None},
        "new_key": 1,
    }
    platform.ends = [end] * 4
    said = cli("why", "echo", "-s", "s", "-n", "2")
    assert said.out.count("stalled_reader_s closed it with 1013") == 2
    assert "after 3 min 12 s" in said.out
    assert "TRUNKLINE_GATEWAY_STALLED_READER_S" in said.out
    assert "client to agent: 1 frame, 29 bytes, the last 3 min 11 s before the end" in said.out
    assert "agent to client: nothing" in said.out
    assert cli("why", "echo", "-s", "s", "-o", "json").json == [end] * 3
