"""A session's log, followed across lost connections."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from trunkline.client._errors import BadAnswerError, RefusedError, UnreachableError
from trunkline.client._events import EventParser, ServerEvent
from trunkline.client._http import Http

#: A quiet stream sends a comment far more often than this.
SILENCE_S = 150.0
FIRST_DELAY_S = 0.25
MAX_DELAY_S = 8.0
#: A platform that is being restarted or moved is back by then.
GIVE_UP_AFTER_S = 300.0
_WORTH_ANOTHER_TRY = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """What to read of a session's log."""

    kind: str = "console"
    """``console`` for what the agent printed, ``system`` for what happened to it."""
    tail: int = 50
    """How many of the lines written so far to begin with, 1 to 300."""
    follow: bool = False
    """Whether to go on with the lines to come."""


class LogStream:
    """Events of one log, in order. Iterate once; cancelling is safe.

    When following, a lost connection is made again and goes on after the last event. That is
    given up after ``GIVE_UP_AFTER_S`` without a connection.

    Attributes:
        on_loss: Called once whenever the stream is lost, before it is tried again, with the
            error; None if the platform ended the stream in good order.
    """

    def __init__(
        self,
        http: Http,
        url: str,
        query: LogQuery,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._http = http
        self._url = url
        self._query = query
        self._sleep = sleep
        self._jitter = jitter
        self._last_id = ""
        self._offset: int | None = None
        self._last_lines: tuple[str, ...] = ()
        self._retry_s: float | None = None
        self._has_lines = False
        self.on_loss: Callable[[Exception | None], None] = lambda _error: None

    async def __aiter__(self) -> AsyncIterator[ServerEvent]:
        delay, waited, is_first = FIRST_DELAY_S, 0.0, True
        while True:
            lost: Exception | None = None
            self._has_lines = False
            try:
                async for event in self._connection(is_first=is_first):
                    is_first = False
                    yield event
            except (UnreachableError, RefusedError) as exc:
                # Only what was reached once is waited for: a wrong address never answers.
                if not self._query.follow or is_first or not _may_pass(exc):
                    raise
                lost = exc
            if not self._query.follow:
                return
            if self._has_lines:
                # The session's state alone is no progress: a platform that is stopping tells
                # it and ends the stream, as often as it is asked.
                delay, waited = FIRST_DELAY_S, 0.0
            if waited >= GIVE_UP_AFTER_S:
                if lost is not None:
                    raise lost
                return
            is_first = False
            # Half of it is chance, so that followers cut off together don't come back together.
            pause = max(delay, self._retry_s or 0.0) * (0.5 + self._jitter() / 2)
            if waited == 0:
                self.on_loss(lost)
            await self._sleep(pause)
            waited += pause
            delay = min(delay * 2, MAX_DELAY_S)

    async def _connection(self, *, is_first: bool) -> AsyncIterator[ServerEvent]:
        query = self._query
        header = {"accept": "text/event-stream"}
        asked = {"follow": str(query.follow).lower(), "kind": query.kind, "tail": str(query.tail)}
        if self._last_id:
            header["last-event-id"] = self._last_id
        if self._offset is not None:
            asked["after"] = str(self._offset)
        if not is_first:
            # What a platform that knows neither an id nor an offset should begin with.
            asked["tail"] = "1"
        # Such a platform sends the last line again, behind the session's state.
        may_repeat = not is_first and self._offset is None and not self._last_id
        parser = EventParser()
        parser.resume_from(self._last_id)
        async with self._http.stream(
            "GET", self._url, asked, header=header, read_timeout_s=SILENCE_S
        ) as answer:
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                raise BadAnswerError("the log stream's answer isn't a stream of events")
            async for chunk in self._http.chunks(answer):
                for event in parser.receive_data(chunk):
                    record = _record_of(event)
                    if "stream" in record:
                        is_repeat = may_repeat and event.lines == self._last_lines
                        may_repeat = False
                        if is_repeat:
                            continue
                    self._has_lines = self._has_lines or "session_state" not in record
                    self._note_place(event, record)
                    yield event
                self._retry_s = parser.retry_s or self._retry_s

    def _note_place(self, event: ServerEvent, record: dict[str, Any]) -> None:
        self._last_id, self._last_lines = event.id, event.lines
        offset = record.get("offset")
        if isinstance(offset, int):
            self._offset = offset


def _record_of(event: ServerEvent) -> dict[str, Any]:
    try:
        record = json.loads(event.data)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _may_pass(error: Exception) -> bool:
    return not isinstance(error, RefusedError) or error.status in _WORTH_ANOTHER_TRY
