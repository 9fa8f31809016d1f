"""What the benchmarks measure still runs."""

from pathlib import Path

from benchmarks.support.processes import Children


def test_the_gateway_under_test_relays_what_the_load_sends(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        echo = children.start_python("upstream", "benchmarks.relay.echo_server")
        port = str(echo.read()["port"])
        gateway = children.start_python(
            "trunkline", "benchmarks.relay.gateway_under_test", "--upstream", port
        )
        said = gateway.read()
        load = children.start_python("load", "benchmarks.support.load")
        load.ask(
            do="open",
            port=said["port"],
            path=said["path"],
            headers={"Authorization": f"Bearer {said['token']}"},
            frame_bytes=640,
            connections=3,
        )
        # The load compares each echo with what it sent.
        assert load.ask(do="run", round_trips=30)["p50_us"] > 0
        load.ask(do="close")
    assert (tmp_path / "trunkline.log").read_text() == ""
