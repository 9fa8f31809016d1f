"""What the platform is composed of: its lock, its socket, its health."""

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from trunkline.platform.health import Health
from trunkline.platform.locks import Locks, StateDirInUseError
from trunkline.platform.server import ListenError, listen, url_of


class FakeStore:
    error: Exception | None = None

    async def ping(self) -> None:
        if self.error is not None:
            raise self.error


def test_one_platform_per_state_directory(tmp_path: Path) -> None:
    path = tmp_path / "a" / "state"
    with Locks().state_dir(path, is_shared=False):
        for is_shared in (False, True):
            with pytest.raises(StateDirInUseError, match="--state-dir"):
                with Locks().state_dir(path, is_shared=is_shared):
                    pass
    with Locks().state_dir(path, is_shared=True), Locks().state_dir(path, is_shared=True):
        with pytest.raises(StateDirInUseError), Locks().state_dir(path, is_shared=False):
            pass
    with Locks().state_dir(path, is_shared=False):
        assert path.stat().st_mode & 0o777 == 0o700


def test_one_platform_per_store_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "store.db"
    with Locks().store_file(path):
        with (
            pytest.raises(StateDirInUseError, match="TRUNKLINE_STORE_URL"),
            Locks().store_file(path),
        ):
            pass
    with Locks().store_file(path):
        assert not path.exists()


def test_a_lock_stays_with_those_who_inherit_its_file(tmp_path: Path) -> None:
    with ExitStack() as stack:
        first = Locks()
        with first.state_dir(tmp_path, is_shared=False), first.store_file(tmp_path / "db"):
            heir = Locks([os.dup(file) for file in first.files])
            stack.enter_context(heir.state_dir(tmp_path, is_shared=False))
            stack.enter_context(heir.store_file(tmp_path / "db"))
        with pytest.raises(StateDirInUseError), Locks().state_dir(tmp_path, is_shared=False):
            pass
        with pytest.raises(StateDirInUseError), Locks().store_file(tmp_path / "db"):
            pass
    with Locks().state_dir(tmp_path, is_shared=False):
        pass


def test_the_url_of_a_socket() -> None:
    with listen("127.0.0.1", 0) as sock:
        assert url_of(sock) == f"http://127.0.0.1:{sock.getsockname()[1]}"
    with listen("0.0.0.0", 0) as sock:
        assert url_of(sock) == f"http://127.0.0.1:{sock.getsockname()[1]}"


def test_a_port_that_is_taken_says_what_to_do() -> None:
    with listen("127.0.0.1", 0) as sock:
        sock.listen()
        port = sock.getsockname()[1]
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port}.*--port"):
            listen("127.0.0.1", port)


def test_an_address_that_is_not_this_machines() -> None:
    with pytest.raises(ListenError, match=r"192\.0\.2\.1:0"):
        listen("192.0.2.1", 0)


@pytest.mark.parametrize("host", ["no such host", "nowhere.invalid"])
def test_a_name_nobody_knows(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    def unknown(self: socket.socket, address: tuple[str, int]) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "socket", type("S", (socket.socket,), {"bind": unknown}))
    with pytest.raises(ListenError, match="not known"):
        listen(host, 0)


async def test_health_says_why(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    health = Health(store)  # type: ignore[arg-type]
    assert await health.problem() is None
    store.error = OSError("disk gone")
    assert await health.problem() == "the store doesn't answer"
    assert "disk gone" in caplog.text
    health.is_draining = True
    assert await health.problem() == "draining"
