"""sessions, delete, endpoint and invoke, against a stand-in for a platform."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest
from starlette.responses import JSONResponse

from tests.integration.cli.conftest import FakePlatform, Run, refusal
from trunkline.cli import polling
from trunkline.cli.exits import ExitCode

AGENT_YAML = """\
kind: hosted
name: echo
protocols: [{protocol: invocations_ws, version: 1.0.0}]
"""
ENDPOINT = """\
agent_endpoint:
  protocol_configuration: {invocations_ws: {}}
"""


class TestSessions:
    def test_create_is_remembered(self, cli: Run, platform: FakePlatform) -> None:
        done = cli("sessions", "create", "echo", "--session-id", "mine", "--version", "2")
        assert done.code == 0
        assert "mine" in done.out
        assert "2 (type: version_ref)" in done.out
        platform.log_answers = [b"data: x\n\n"]
        assert "(session: mine)" in cli("monitor", "echo").err
        made = cli("sessions", "create", "echo", "-o", "json").json
        assert made["agent_session_id"] == "made-up"

    def test_stop_and_delete(self, cli: Run, platform: FakePlatform) -> None:
        cli("sessions", "create", "echo", "--session-id", "mine")
        done = cli("sessions", "stop", "echo", "mine")
        assert (done.code, done.err) == (0, 'Session "mine" stopped for agent "echo".\n')
        done = cli("sessions", "stop", "echo", "stopped")
        assert (done.code, done.err) == (
            0, 'Session "stopped" is already stopped for agent "echo".\n',
        )  # fmt: skip
        done = cli("sessions", "delete", "echo", "mine")
        assert (done.code, done.err) == (0, 'Session "mine" deleted from agent "echo".\n')
        assert platform.deleted_sessions == ["mine"]
        # Gone is not the one used last.
        platform.log_answers = [b"data: x\n\n"]
        assert "(session: new)" in cli("monitor", "echo").err


class TestDelete:
    def test_it_has_to_be_meant(self, cli: Run, platform: FakePlatform) -> None:
        done = cli("delete", "echo")
        assert done.code == ExitCode.USAGE
        assert "--yes" in done.err
        assert platform.changes == []
        done = cli("delete", "echo", "--yes")
        assert (done.code, done.out) == (0, 'Agent "echo" deleted.\n')
        done = cli("delete", "echo", "--version", "2", "--force")
        assert (done.code, done.out) == (0, 'Version "2" of agent "echo" deleted.\n')
        assert [change[:2] for change in platform.changes] == [
            ("DELETE", "echo"),
            ("DELETE", "echo/versions/2?api-version=v1&force=true"),
        ]
        assert cli("delete", "echo", "-y", "-o", "json").json == {
            "name": "echo", "version": None, "deleted": True,
        }  # fmt: skip

    def test_a_refusal(self, cli: Run) -> None:
        done = cli("delete", "busy", "--yes")
        assert done.code == ExitCode.FAILED
        assert "has 2 sessions" in done.err

    def test_what_deploy_kept_is_taken_back(self, cli: Run) -> None:
        Path("agent.yaml").write_text(AGENT_YAML)
        Path("main.py").touch()
        assert cli("env", "set", "OTHER", "x").code == 0
        assert cli("deploy").code == 0
        kept = cli("env", "get-values", "-o", "json").json
        assert kept["AGENT_ECHO_VERSION"] == "3"
        assert kept["AGENT_ECHO_INVOCATIONS_WS_ENDPOINT"].startswith("ws://")
        assert kept["AGENT_ECHO_ENDPOINT"].endswith("/agents/echo/versions/3")
        cli("delete", "echo", "--version", "2", "--yes")
        assert "AGENT_ECHO_VERSION" in cli("env", "get-values").out
        cli("delete", "echo", "--yes")
        assert cli("env", "get-values", "-o", "json").json == {"OTHER": "x"}


class TestEndpoint:
    def test_show(self, cli: Run, platform: FakePlatform) -> None:
        done = cli("endpoint", "show", "echo")
        assert "(default: @latest 100%)" in done.out
        assert "invocations_ws" in done.out
        platform.agent_endpoint = {
            "version_selector": {
                "version_selection_rules": [
                    {"type": "FixedRatio", "agent_version": "1", "traffic_percentage": 90},
                    {"type": "FixedRatio", "agent_version": "2", "traffic_percentage": 10},
                ]
            },
            "protocol_configuration": {"invocations": {}},
            "authorization_schemes": [{"type": "Entra"}],
        }
        done = cli("endpoint", "show", "echo")
        assert "1 90%, 2 10%" in done.out
        assert "Entra" in done.out
        assert cli("endpoint", "show", "echo", "-o", "json").json == {
            "name": "echo", "agent_endpoint": platform.agent_endpoint, "agent_card": None,
        }  # fmt: skip

    def test_update(self, cli: Run, platform: FakePlatform) -> None:
        Path("main.py").touch()
        Path("agent.yaml").write_text(AGENT_YAML)
        done = cli("endpoint", "update")
        assert done.code == ExitCode.USAGE
        assert "there is nothing to change" in done.err
        Path("agent.yaml").write_text(AGENT_YAML + ENDPOINT)
        done = cli("endpoint", "update")
        assert (done.code, done.out) == (0, 'Agent "echo" updated.\n')
        (change,) = platform.changes
        assert change == (
            "PATCH", "echo",
            {"agent_endpoint": {"protocol_configuration": {"invocations_ws": {}}}},
        )  # fmt: skip

    def test_what_would_break_clients_has_to_be_meant(
        self, cli: Run, platform: FakePlatform
    ) -> None:
        platform.agent_endpoint = {"protocols": ["invocations", "invocations_ws"]}
        Path("main.py").touch()
        Path("agent.yaml").write_text(AGENT_YAML + ENDPOINT)
        done = cli("endpoint", "update")
        assert done.code == ExitCode.USAGE
        assert "clients that use invocations will be refused" in done.err
        assert platform.changes == []
        assert cli("endpoint", "update", "--force").code == 0


class TestInvoke:
    def test_a_stream_of_events_is_shown_as_its_data(self, cli: Run) -> None:
        done = cli("invoke", "echo", "stream")
        assert done.out == '{"n": 1}\ntwo\n'
        raw = cli("invoke", "echo", "stream", "--output", "raw").out
        assert raw.startswith("HTTP/1.1 200\n")
        assert "content-type: text/event-stream" in raw
        assert raw.endswith("data: [DONE]\n\n")

    def test_responses(self, cli: Run) -> None:
        done = cli("invoke", "echo", "a time", "--protocol", "responses")
        assert (done.code, done.out) == (0, "once a time\n")
        said = cli("invoke", "echo", "hi", "-p", "responses", "-o", "json").json
        assert said["text"] == "once upon"
        done = cli("invoke", "echo", "fail", "-p", "responses")
        assert done.code == ExitCode.FAILED
        assert "the agent failed: no idea" in done.err

    def test_in_a_session_of_a_version(self, cli: Run) -> None:
        assert (
            cli("invoke", "echo", "hi", "--version", "2", "-o", "json").json["body"]["session"]
            == "made-up"
        )

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--version", "2", "--session-id", "s"), "has its version already"),
            (("--conversation-id", "c"), "needs --protocol responses"),
            (("--new-conversation",), "needs --protocol responses"),
            (
                ("-p", "responses", "--new-conversation", "--conversation-id", "c"),
                "give --conversation-id or --new-conversation, not both",
            ),
            (("--client-header", "authorization: x"), "begin with x-client-"),
            (("--client-header", "x-client-a"), "begin with x-client-"),
        ],
    )
    def test_options_that_dont_fit(self, cli: Run, options: tuple[str, ...], said: str) -> None:
        done = cli("invoke", "echo", "hi", *options)
        assert done.code == ExitCode.USAGE
        assert said in " ".join(done.err.split())


class TestConversations:
    def test_one_is_begun(self, cli: Run) -> None:
        done = cli("invoke", "echo", "a time", "-p", "responses", "--new-conversation")
        assert (done.code, done.out) == (0, "once a time in conv_1\n")
        assert "conversation conv_1" in done.err


class TestLongInvocations:
    """The agent answers 202, and works on."""

    def answers(self, platform: FakePlatform, *statuses: str) -> None:
        # It isn't known at once; then it is, and says how often to ask.
        platform.invocation_answers = [refusal(404, "not_found", "no such invocation")] + [
            JSONResponse({"status": status, "sum": 3}, headers={"retry-after": "0"})
            for status in statuses
        ]

    def test_it_is_asked_for_until_it_is_done(
        self, cli: Run, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(polling, "POLL_EVERY_S", 0.01)
        self.answers(platform, "running", "Completed")
        done = cli("invoke", "echo", "long", "-o", "json")
        assert (done.code, done.json["body"]) == (0, {"status": "Completed", "sum": 3})
        assert "accepted; waiting" in done.err
        assert platform.invocation_answers == []

    @pytest.mark.parametrize("status", ["failed", "cancelled"])
    def test_how_it_ended_is_the_exit_code(
        self, cli: Run, platform: FakePlatform, status: str
    ) -> None:
        self.answers(platform, status)
        done = cli("invoke", "echo", "long")
        assert done.code == ExitCode.FAILED
        assert json.loads(done.out) == {"status": status, "sum": 3}
        assert f"the invocation ended as {status}" in done.err

    def test_the_wait_has_an_end(self, cli: Run, platform: FakePlatform) -> None:
        platform.invocation_answers = [
            JSONResponse({"status": "running"}, headers={"retry-after": "30"})
        ]
        done = cli("invoke", "echo", "long", "--timeout-s", "1")
        assert done.code == ExitCode.FAILED
        assert "isn't over after 1 s; it goes on" in done.err

    def test_nobody_has_to_wait(self, cli: Run) -> None:
        done = cli("invoke", "echo", "long", "--no-wait")
        assert (done.code, json.loads(done.out)["status"]) == (0, "running")


class TestOnBehalfOf:
    def test_the_user_is_named_on_each_request(self, cli: Run, platform: FakePlatform) -> None:
        assert cli("invoke", "echo", "hi", "--user-identity", "alice").code == 0
        assert cli("sessions", "list", "echo", "--user-identity", "alice").code == 0
        assert cli("sessions", "list", "echo").code == 0
        assert platform.users == ["alice", "alice", None]

    def test_her_sessions_are_remembered_apart(self, cli: Run, platform: FakePlatform) -> None:
        cli("invoke", "echo", "hi", "--user-identity", "alice")
        platform.log_answers = [b"data: x\n\n", b"data: x\n\n"]
        assert "(session: s-invoke)" in cli("monitor", "echo", "--user-identity", "alice").err
        assert "(session: new)" in cli("monitor", "echo").err

    @pytest.mark.parametrize("name", ["", "zoë", "a\nx-admin: 1"])
    def test_what_no_header_carries(self, cli: Run, platform: FakePlatform, name: str) -> None:
        done = cli("invoke", "echo", "hi", "--user-identity", name)
        assert done.code == ExitCode.USAGE
        assert "printable ASCII" in done.err
        assert platform.users == []


class TestCode:
    def give(self, platform: FakePlatform) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("main.py", "print(1)\n")
            archive.writestr("lib/tool.py", "TWO = 2\n")
        platform.code = packed.getvalue()
        platform.code_sha256 = hashlib.sha256(platform.code).hexdigest()

    def test_download(self, cli: Run, platform: FakePlatform) -> None:
        self.give(platform)
        done = cli("code", "download", "echo")
        assert (done.code, done.out) == (0, 'Downloaded agent "echo" (version 3) -> echo-3\n')
        assert Path("echo-3/main.py").read_text() == "print(1)\n"
        assert Path("echo-3/lib/tool.py").read_text() == "TWO = 2\n"
        again = cli("code", "download", "echo")
        assert again.code == ExitCode.USAGE
        assert "echo-3 isn't empty" in again.err

    def test_as_a_zip_of_a_version(self, cli: Run, platform: FakePlatform) -> None:
        self.give(platform)
        done = cli(
            "code", "download", "echo", "--version", "2", "--zip", "--dest", "a", "-o", "json"
        )
        assert done.json == {
            "agent": "echo", "version": "2", "path": "a/echo-2.zip",
            "sha256": platform.code_sha256, "size": len(platform.code),
        }  # fmt: skip
        assert Path("a/echo-2.zip").read_bytes() == platform.code
        assert [path.name for path in Path("a").iterdir()] == ["echo-2.zip"]

    def test_what_arrives_damaged_is_not_kept(self, cli: Run, platform: FakePlatform) -> None:
        self.give(platform)
        platform.code_sha256 = "0" * 64
        done = cli("code", "download", "echo")
        assert done.code == ExitCode.FAILED
        assert "arrived damaged" in done.err
        assert list(Path().iterdir()) == []


def test_an_azure_yaml_is_deployed_by_folder_or_name(cli: Run, platform: FakePlatform) -> None:
    Path("src").mkdir()
    Path("src/main.py").touch()
    Path("azure.yaml").write_text(
        "services:\n  echo:\n    host: azure.ai.agent\n    project: src\n"
        "    protocols: [{protocol: invocations_ws, version: 1.0.0}]\n"
    )
    for words in ((), (".",), ("echo",)):
        platform.polls_until_built = 1
        done = cli("deploy", *words)
        assert done.code == 0, done.err
        assert done.out.startswith("echo 3 ws://")
    assert len(platform.uploads) == 3
    done = cli("deploy", "ecko")
    assert done.code == ExitCode.USAGE


def test_the_build_log_can_be_followed(cli: Run) -> None:
    Path("agent.yaml").write_text(AGENT_YAML)
    Path("main.py").touch()
    done = cli("deploy", "--build-log")
    assert done.code == 0
    assert [line for line in done.err.splitlines() if line.startswith("build line")] == [
        f"build line {n}" for n in range(60)
    ]


def test_what_programs_read_of_a_version(cli: Run, platform: FakePlatform) -> None:
    Path("agent.yaml").write_text(AGENT_YAML + ENDPOINT)
    Path("main.py").touch()
    made = cli("deploy", "-o", "json").json
    assert (made["name"], made["version"], made["status"]) == ("echo", "3", "active")
    assert list(made["agent_endpoints"]) == ["invocations_ws"]
    assert "next_step" not in made
    assert cli("endpoint", "update", "-o", "json").json["name"] == "echo"


def test_what_programs_read_of_a_recorded_call(cli: Run) -> None:
    done = cli("record", "a.trk", "echo", "--linger-s", "0.2", "-o", "json", stdin=b"hi\n")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [(line["direction"], line["type"]) for line in lines] == [
        ("sent", "text"), ("received", "text"), ("received", "close"),
    ]  # fmt: skip
    assert Path("a.trk").stat().st_size > 0
