"""sessions, delete, endpoint and invoke, against a stand-in for a platform."""

import json
from pathlib import Path

import pytest

from tests.integration.cli.conftest import FakePlatform, Run
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
            (("--client-header", "authorization: x"), "begin with x-client-"),
            (("--client-header", "x-client-a"), "begin with x-client-"),
        ],
    )
    def test_options_that_dont_fit(self, cli: Run, options: tuple[str, ...], said: str) -> None:
        done = cli("invoke", "echo", "hi", *options)
        assert done.code == ExitCode.USAGE
        assert said in " ".join(done.err.split())


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
