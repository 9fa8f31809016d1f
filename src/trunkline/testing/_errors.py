"""What a test is told when the agent does something else than the test expected."""

from trunkline.testing._closed import Closed


class AgentTestError(AssertionError):
    """Root of this package's errors: the agent didn't do what the test wanted of it."""


class NothingCameError(AgentTestError):
    """What was waited for did not come in time; the text says what the agent does instead."""


class UnexpectedMessageError(AgentTestError):
    """A message came, and it is of another kind than the test asked for."""


class WebSocketClosedError(AgentTestError):
    """The WebSocket has ended, and what the test asked of it needs an open one.

    Attributes:
        closed: How it ended.
    """

    def __init__(self, message: str, closed: Closed) -> None:
        super().__init__(message)
        self.closed = closed


class UpgradeRefusedError(AgentTestError):
    """The agent answered the opening handshake with something else than 101.

    Attributes:
        status_code: The answer's status.
        headers: The answer's headers, names in lower case.
        body: The answer's body.
    """

    def __init__(self, status_code: int, headers: dict[str, str], body: bytes) -> None:
        text = body.decode(errors="replace").strip()
        super().__init__(f"the agent refused the WebSocket: {status_code} {text}".rstrip())
        self.status_code = status_code
        self.headers = headers
        self.body = body


class NotListeningError(AgentTestError):
    """The agent takes no connections: it has stopped."""


class AgentStartError(AgentTestError):
    """The agent's startup failed; what it raised is this error's cause."""


class RestlessError(AgentTestError):
    """The agent doesn't come to rest, so its time can't go on or it can't be ended."""

    def __init__(self, patience_s: float, threads: int, places: list[str]) -> None:
        why = (
            f"{threads} of its calls still run in threads (asyncio.to_thread, run_in_executor)"
            if threads
            else "it still runs, without ever waiting for anything or ending"
        )
        lines = [f"after {patience_s:g} s of real time the agent is busy: {why}"]
        super().__init__("\n  ".join([*lines, *(f"it is in {place}" for place in places)]))
