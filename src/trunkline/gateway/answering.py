"""HTTP requests that are being answered: whose they are, and how to end them early.

A stream of events may go on for as long as a WebSocket does, so it ends for the same reasons. What
only the platform does for a request is never broken off half done: such a request ends while its
body still comes, or once its answer has begun; one that an agent works on, at any time.
"""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from starlette.types import Message, Receive

from trunkline.auth.caller import Caller
from trunkline.auth.noted import Note
from trunkline.gateway.routes import Projects
from trunkline.gateway.summary import ClosedBy
from trunkline.protocol.errors import AuthenticationError
from trunkline.protocol.ids import (
    AgentName,
    SessionId,
    SessionKey,
    is_agent_name,
    is_session_id,
)


class Answering:
    """One request, from before it is known who asks until its answer is out."""

    __slots__ = ("_cancels", "_note", "_projects", "_renewed_until", "_scope", "_task", "error",
                 "has_begun")  # fmt: skip

    def __init__(self, note: Note, scope: MutableMapping[str, Any], projects: Projects) -> None:
        """Take the request that the present task answers, and no other.

        Args:
            note: What turns out about it.
            scope: The ASGI scope.
            projects: The projects there are.
        """
        task = asyncio.current_task()
        assert task is not None
        self._note = note
        self._scope = scope
        self._projects = projects
        self._task = task
        self._cancels = 0
        self._renewed_until: float | None = None
        self.has_begun = False
        """Whether the answer's head is out."""
        self.error: AuthenticationError | None = None
        """Why it is to end, once it is."""

    @property
    def caller(self) -> Caller | None:
        """Who asks, once that is known."""
        return self._note.caller

    @property
    def expires_at(self) -> float:
        """When what the caller has shown ends, in Unix seconds."""
        if self._renewed_until is not None:
            return self._renewed_until
        return self._note.caller.expires_at if self._note.caller is not None else float("inf")

    @expires_at.setter
    def expires_at(self, value: float) -> None:
        self._renewed_until = value

    @property
    def session(self) -> SessionKey | None:
        """The session it is about, if it is about one."""
        named = self._scope.get("path_params") or {}
        project, agent = self._projects.find(named.get("project")), named.get("agent") or ""
        session_id = self._note.session_id or named.get("session") or ""
        if project is None or not is_agent_name(agent) or not is_session_id(session_id):
            return None
        return SessionKey(project, AgentName(agent), SessionId(session_id))

    def close(self, reason: str, by: ClosedBy, *, limit: str = "") -> None:
        """End it, as soon as nothing is left half done by that. Again is fine."""
        del by
        if self.error is None:
            self.error = AuthenticationError(f"{reason}; get a new token or key")
            self.error.limit = limit
        if self._is_cuttable:
            self._cancels += 1
            self._task.cancel()

    @property
    def _is_cuttable(self) -> bool:
        return self.has_begun or self._note.is_passed_on

    def receiving(self, receive: Receive) -> Receive:
        """Return what receives the request's body for as long as it may go on."""

        async def guarded() -> Message:
            message = await receive()
            # Looked at only now: it may have come while this waited for the body's last piece.
            if self.error is not None and not self._is_cuttable:
                raise self.error
            return message

        return guarded

    def was_cut(self) -> bool:
        """Tell, where its task was cancelled, whether that was all to end it.

        As :func:`asyncio.timeout` does it: who else cancels the task means the task.
        """
        is_other = not self._cancels
        while self._cancels:
            self._cancels -= 1
            is_other = self._task.uncancel() > 0
        return not is_other
