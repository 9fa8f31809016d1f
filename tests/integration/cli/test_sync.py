"""The client without asyncio, against a stand-in for a platform."""

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from tests.integration.cli.conftest import FakePlatform
from trunkline.client import (
    Backoff,
    ClosedError,
    RefusedError,
    SyncConversation,
    UnreachableError,
    connect_sync,
)


@pytest.fixture
def echo(platform: FakePlatform) -> Iterator[SyncConversation]:
    with connect_sync("echo", endpoint=platform.url, token="token", session_id="mine") as talk:
        yield talk


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [each.name for each in threading.enumerate() if each.name == "trunkline:client"]


def test_a_conversation(echo: SyncConversation) -> None:
    assert echo.session_id == "mine"
    assert echo.close_code is None
    echo.send("hello")
    echo.send(b"\x00" * 100_000)
    assert echo.receive() == "HELLO"
    assert echo.receive() == b"\x00" * 100_000
    echo.close()
    assert (echo.close_code, echo.connections) == (1000, 1)
    echo.close()
    with pytest.raises(ClosedError, match="closed with 1000"):
        echo.send("too late")
    with pytest.raises(ClosedError):
        echo.receive()
    assert list(echo) == []


def test_it_is_closed_as_it_is_asked(platform: FakePlatform) -> None:
    talk = connect_sync("echo", endpoint=platform.url, token="token")
    talk.close(4002, "seen enough")
    assert talk.close_code == 4002
    with pytest.raises(ClosedError, match="4002"):
        list(talk)


def test_iteration_ends_with_an_error_if_the_code_says_so(platform: FakePlatform) -> None:
    with connect_sync("closer", endpoint=platform.url, token="token") as talk:
        messages = iter(talk)
        assert next(messages) == "bye"
        with pytest.raises(ClosedError, match="closed with 4001") as raised:
            next(messages)
    assert (raised.value.close_code, raised.value.reason) == (4001, "enough")
    assert talk.close_reason == "enough"


def test_no_message_is_lost_when_it_comes_too_late(echo: SyncConversation) -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        echo.receive(timeout_s=0.01)
    assert time.monotonic() - begun < 5
    received: list[object] = []
    for number in range(200):
        echo.send(f"n {number}", timeout_s=5)
        # About as long as an echo takes: some come in the moment the time is over.
        with contextlib.suppress(TimeoutError):
            received.append(echo.receive(timeout_s=number * 5e-6))
    received += [echo.receive(timeout_s=5) for _ in range(200 - len(received))]
    assert received == [f"N {number}" for number in range(200)]


def test_one_thread_sends_while_another_receives(echo: SyncConversation) -> None:
    received: list[object] = []
    done = threading.Event()

    def receive() -> None:
        for message in echo:
            received.append(message)
            if len(received) == 50:
                done.set()

    reader = threading.Thread(target=receive)
    reader.start()
    for number in range(50):
        echo.send(f"n {number}")
    assert done.wait(10)
    # It waits for the next message, and is told that there is none.
    echo.close()
    reader.join(10)
    assert not reader.is_alive()
    assert received == [f"N {number}" for number in range(50)]


def test_it_comes_back_to_its_session(platform: FakePlatform) -> None:
    backoff = Backoff(first_s=0.01)
    with connect_sync(
        "leaver", endpoint=platform.url, token="token", session_id="mine", backoff=backoff
    ) as talk:
        talk.send("restart")
        # What is sent on a connection that is being closed may be lost: it is asked again.
        answer = None
        while answer is None:
            talk.send("again")
            try:
                answer = talk.receive(timeout_s=0.5)
            except TimeoutError:
                continue
        assert answer == "again"
        assert talk.connections == 2
        assert talk.session_id == "mine"


def test_what_cant_be_opened_leaves_nothing(platform: FakePlatform) -> None:
    with pytest.raises(RefusedError, match="no agent 'nobody'"):
        connect_sync("nobody", endpoint=platform.url, token="token")
    with pytest.raises(UnreachableError):
        connect_sync("echo", endpoint="http://127.0.0.1:9/api/projects/default", token="token")


async def test_within_an_event_loop_as_a_notebook_has_one(platform: FakePlatform) -> None:
    with connect_sync("echo", endpoint=platform.url, token=lambda: "token") as talk:
        talk.send("hello")
        assert talk.receive() == "HELLO"


def test_what_is_interrupted_is_given_up(
    echo: SyncConversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(_self: object, timeout: float | None = None) -> None:
        raise Interrupted

    with monkeypatch.context() as patched:
        # As Ctrl-C does it: the thread that waits gets an exception.
        patched.setattr("concurrent.futures.Future.result", interrupt)
        with pytest.raises(Interrupted):
            echo.receive()
    # Nobody receives any more, so this may.
    echo.send("next")
    assert echo.receive(timeout_s=5) == "NEXT"
