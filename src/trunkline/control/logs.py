"""A session's log as a stream of events: what its agent printed, and what became of it."""

import asyncio
import contextlib
import datetime as dt
import json
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from trunkline.control.services import ControlServices
from trunkline.protocol.errors import InvalidRequestError, VersionNotFoundError
from trunkline.sessions.log import Channel, Entry, SessionLog
from trunkline.store.records import SessionRecord
from trunkline.web.body import flag

_AGENT = "/api/projects/{project}/agents/{agent}"
_DEFAULT_TAIL = 300
_MAX_TAIL = 10_000
_DIGITS = re.compile(r"[0-9]{1,19}")
#: Seconds of silence after which a stream says that it is still there.
_QUIET_S = 15.0
#: How often to look at the log of a session that doesn't run here.
_LOOK_S = 1.0


class Logs:
    """The operations on sessions' logs."""

    def __init__(self, services: ControlServices) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        return [
            Route(f"{_AGENT}/sessions/{{session}}:logstream", self.stream_log, methods=["GET"]),
            Route(
                f"{_AGENT}/versions/{{version}}/sessions/{{session}}:logstream",
                self.stream_log,
                methods=["GET"],
            ),
        ]

    async def stream_log(self, request: Request) -> Response:
        record = await self._services.find_session(request)
        _check_version(request.path_params.get("version", record.version), record)
        self._services.sessions.refuse_elsewhere(record)
        query = request.query_params
        try:
            channel = Channel(query.get("kind", Channel.CONSOLE))
        except ValueError:
            raise InvalidRequestError("kind must be console or system", param="kind") from None
        events = self._events(
            record,
            channel,
            is_following=flag(query.get("follow"), "follow", default=True),
            tail=_number(query.get("tail"), "tail", _DEFAULT_TAIL, _MAX_TAIL),
            after=_number(query.get("after"), "after", -1, 2**62),
        )
        return StreamingResponse(
            events, media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def _events(
        self,
        record: SessionRecord,
        channel: Channel,
        *,
        is_following: bool,
        tail: int,
        after: int,
    ) -> AsyncIterator[bytes]:
        log = self._services.sessions.logs.of(record.home)
        log.refresh()
        yield _event([self._state_of(record)])
        position = after if after >= 0 else await log.tail(channel, tail)
        end = None if is_following else log.read_end(channel)
        while True:
            entries = log.read(channel, position)
            if entries:
                position = entries[-1].end
                yield _event(_shape_entry(entry) for entry in entries)
                # A reader that keeps up with a flood must not keep others from running.
                await asyncio.sleep(0)
            elif end is not None or log.is_discarded or self._services.draining.is_set():
                return
            elif not await self._wait(record, log, channel, position):
                yield b": quiet\n\n"
            if end is not None and position >= end:
                return

    async def _wait(
        self, record: SessionRecord, log: SessionLog, channel: Channel, position: int
    ) -> bool:
        """Wait for more to read, for the drain, or for a while; tell whether anything happened."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _QUIET_S
        while (left_s := until - loop.time()) > 0:
            is_here = self._services.sessions.is_running(record.key)
            if not is_here:
                left_s = min(left_s, _LOOK_S)
            if await self._has_changed(log.wait_changed(channel, position), left_s):
                return True
            if not is_here:
                # Another process of the platform may run it by now; the file tells.
                log.refresh()
                if log.is_discarded or log.read_end(channel) > position:
                    return True
        return False

    async def _has_changed(self, change: Any, timeout_s: float) -> bool:
        tasks = [
            asyncio.ensure_future(change),  # noqa: TID251 - awaited right here
            asyncio.ensure_future(self._services.draining.wait()),  # noqa: TID251
        ]
        try:
            done, _ = await asyncio.wait(
                tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        return bool(done)

    def _state_of(self, record: SessionRecord) -> dict[str, Any]:
        is_running = self._services.sessions.is_running(record.key)
        return {
            "timestamp": _rfc3339(dt.datetime.now(dt.UTC)),
            "session_id": record.key.session_id,
            "session_state": "Running" if is_running else "Idle",
            "agent": record.key.agent,
            "version": record.version,
            "last_accessed": _rfc3339(record.last_accessed_at),
        }


def _check_version(version: str, record: SessionRecord) -> None:
    if version != record.version:
        raise VersionNotFoundError(
            f"session {record.key.session_id!r} is on version {record.version}, "
            f"not on {version[:64]!r}"
        )


def _shape_entry(entry: Entry) -> dict[str, Any]:
    # The offset is for resuming (`after=`). It isn't an `id:` line because one client prints
    # every line it doesn't know.
    return {
        "timestamp": entry.timestamp,
        "stream": entry.stream,
        "message": entry.message,
        "offset": entry.end,
    }


def _event(items: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(b"event: log\ndata: " + json.dumps(item).encode() + b"\n\n" for item in items)


def _rfc3339(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _number(text: str | None, name: str, default: int, most: int) -> int:
    if text is None:
        return default
    if not _DIGITS.fullmatch(text) or int(text) > most:
        raise InvalidRequestError(f"{name} must be a whole number up to {most}", param=name)
    return int(text)
