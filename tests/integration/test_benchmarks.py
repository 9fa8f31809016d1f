"""What the benchmarks measure still runs."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.relay.__main__ import parse
from benchmarks.relay.gateway_under_test import USER
from benchmarks.relay.goals import verdicts
from benchmarks.relay.measure import Samples
from benchmarks.relay.provider import Provider
from benchmarks.relay.proxies import STRANGERS
from benchmarks.support.processes import Children
from tests.support.gateway import running_gateway
from trunkline.auth.issuer import DevelopmentIssuer
from trunkline.runtimes.interface import Address


def test_the_gateway_under_test_relays_what_the_load_sends(tmp_path: Path) -> None:
    with contextlib.closing(Provider()) as provider, Children(tmp_path) as children:
        echo = children.start_python("upstream", "benchmarks.relay.echo_server")
        port = str(echo.read()["port"])
        state = tmp_path / "state"
        token = DevelopmentIssuer.open(state).issue(USER)
        gateway = children.start_python(
            "trunkline", "benchmarks.relay.gateway_under_test",
            "--upstream", port, "--state-dir", str(state),
            "--providers", str(provider.configure(tmp_path / "providers.toml")),
        )  # fmt: skip
        said = gateway.read()
        load = children.start_python("load", "benchmarks.support.load")
        load.ask(
            do="open",
            port=said["port"],
            upgrades=[
                (path, {"Authorization": f"Bearer {token}"})
                for path, token in (
                    (said["paths"][0], token),
                    (said["provider_paths"][0], provider.issue(USER)),
                    (said["provider_paths"][1], provider.issue(USER)),
                )
            ],
            frame_bytes=640,
            connections=3,
        )
        # The load compares each echo with what it sent.
        assert load.ask(do="run", round_trips=30)["p50_us"] > 0
        load.ask(do="close")
    log = (tmp_path / "trunkline.log").read_text()
    assert not {"WARNING", "ERROR"} & set(log.split())


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("wake", ["--times", "3"]),
        ("neighbours", ["--rounds", "1", "--seconds", "8"]),
        ("store", ["--sizes", "100,1000", "--calls", "20"]),
        ("crowd", ["--sessions", "12", "--at-once", "4"]),
        ("idle", ["--connections", "30", "--sessions", "2", "--workers", "2", "--rest-s", "1"]),
        ("reload", ["--callers", "20", "--sessions", "2", "--reloads", "1"]),
    ],
)
def test_a_benchmark_of_a_whole_platform_reaches_its_end(name: str, options: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    # Of some it may mean that the machine is busy; their tables are there all the same.
    assert done.returncode in ((0, 1) if name in ("wake", "reload") else (0,)), (
        done.stdout + done.stderr
    )
    assert "Traceback" not in done.stderr
    assert {"idle": ", KiB", "store": " µs"}.get(name, ", ms") in done.stdout


async def test_the_flood_of_bad_tokens_is_answered() -> None:
    async with running_gateway(Address(path="/nowhere")) as gateway:
        flood = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.access.flood", str(gateway.port), "500"),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert flood.stdin is not None
        assert flood.stdout is not None
        flood.stdin.write(f"{gateway.token()}\n".encode())

        async def ask(do: str) -> dict[str, int]:
            assert flood.stdin is not None
            assert flood.stdout is not None
            flood.stdin.write(json.dumps({"do": do}).encode() + b"\n")
            said: dict[str, int] = json.loads(await flood.stdout.readline())["counts"]
            return said

        counts: Counter[str] = Counter()
        while "404" not in counts:
            await ask("go")
            # It sends at a rate: in no time at all it would send nothing.
            await asyncio.sleep(0.1)
            counts += Counter(await ask("pause"))
        flood.stdin.close()
        assert await flood.wait() == 0
    assert counts["sent"] >= counts["404"]


def test_a_run_says_which_goals_it_meets() -> None:
    plan, is_check = parse(["--only", "frames", "--only", "memory", "--only", "set-ups", "--check"])
    assert is_check
    found = Samples()
    for size in plan.frame_sizes:
        found.cpu_us["trunkline", size] = [10.0, 11.0, 12.0, 13.0]
        found.cpu_us["nginx", size] = [10.0] * 4
        found.cpu_us["HAProxy", size] = [20.0] * 4
    for name, per_s in (("trunkline", 600.0), ("nginx", 1000.0), *((n, 400.0) for n in STRANGERS)):
        found.set_ups_per_s[name, 0] = [per_s] * 4
    found.idle_kib["trunkline"] = 3.5
    said = [str(each) for each in verdicts(plan, found)]
    cpu = "CPU per round trip, 640 bytes, 32 connections"
    assert said[:2] == [
        f"missed  {cpu}, of nginx's: 1.15 (goal: at most 1.1); unsure, the rounds differ",
        f"met     {cpu}, of HAProxy's: 0.57 (goal: at most 1)",
    ]
    assert said[4] == (
        "met     connections set up a second, trunkline, of nginx's: 0.60 (goal: at least 0.5)"
    )
    assert all(each.startswith("missed") for each in said[5:-1])
    assert len(said) == 6 + len(STRANGERS)
    assert said[-1] == "met     KiB per idle connection: 3.50 (goal: at most 6)"
