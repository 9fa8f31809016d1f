"""What the benchmarks measure still runs."""

from pathlib import Path

from benchmarks.relay.gateway_under_test import USER
from benchmarks.support.processes import Children
from trunkline.auth.issuer import DevelopmentIssuer


def test_the_gateway_under_test_relays_what_the_load_sends(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        echo = children.start_python("upstream", "benchmarks.relay.echo_server")
        port = str(echo.read()["port"])
        state = tmp_path / "state"
        token = DevelopmentIssuer.open(state).issue(USER)
        gateway = children.start_python(
            "trunkline", "benchmarks.relay.gateway_under_test",
            "--upstream", port, "--state-dir", str(state),
        )  # fmt: skip
        said = gateway.read()
        load = children.start_python("load", "benchmarks.support.load")
        load.ask(
            do="open",
            port=said["port"],
            upgrades=[(path, {"Authorization": f"Bearer {token}"}) for path in said["paths"]],
            frame_bytes=640,
            connections=3,
        )
        # The load compares each echo with what it sent.
        assert load.ask(do="run", round_trips=30)["p50_us"] > 0
        load.ask(do="close")
    log = (tmp_path / "trunkline.log").read_text()
    assert not {"WARNING", "ERROR"} & set(log.split())
