from pathlib import Path

import pytest

from trunkline.runtimes.process.listening import MAX_SOCKET_PATH_BYTES, prepare_run_dir
from trunkline.runtimes.process.readiness import next_delay_s
from trunkline.runtimes.process.settings import ProcessSettings


@pytest.mark.parametrize("name", ["build_timeout_s", "drain_timeout_s", "probe_timeout_s"])
def test_no_limit_may_be_zero(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be more than 0"):
        ProcessSettings(state_dir=Path("/state"), **{name: 0.0})  # type: ignore[arg-type]


def test_an_interface_does_not_go_with_names() -> None:
    with pytest.raises(ValueError, match="network is direct, and egress_allow names hosts"):
        ProcessSettings(state_dir=Path("/state"), network="direct", egress_allow=("a.example",))


def test_name_servers_are_addresses() -> None:
    with pytest.raises(ValueError, match=r"dns\.example"):
        ProcessSettings(state_dir=Path("/state"), direct_resolvers=("dns.example",))


@pytest.mark.parametrize(
    ("waited_s", "delay_s"), [(0, 0.005), (0.04, 0.005), (0.2, 0.02), (1, 0.1), (60, 0.1)]
)
def test_readiness_is_asked_for_in_proportion(waited_s: float, delay_s: float) -> None:
    assert next_delay_s(waited_s) == pytest.approx(delay_s)


def test_run_dir_that_is_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"run_dir is too long.*{MAX_SOCKET_PATH_BYTES}"):
        prepare_run_dir(tmp_path / ("x" * 100))


def test_run_dir_is_closed_to_others(tmp_path: Path) -> None:
    run_dir = tmp_path / "r"
    run_dir.mkdir(mode=0o755)
    prepare_run_dir(run_dir)
    assert run_dir.stat().st_mode & 0o777 == 0o700
