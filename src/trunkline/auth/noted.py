"""Who and what the present request turned out to be about, for whoever records it at its end."""

from contextvars import ContextVar

from trunkline.auth.caller import Caller


class Note:
    """What is known of one request."""

    def __init__(self) -> None:
        self.caller: Caller | None = None
        self.session_id: str | None = None
        #: Whether somebody else is at work on it: an agent, or another process of the platform.
        self.is_passed_on = False


_present: ContextVar[Note | None] = ContextVar("trunkline_note", default=None)


def begin() -> Note:
    """Return a new note, the present one from here on."""
    note = Note()
    _present.set(note)
    return note


def caller_is(caller: Caller) -> None:
    """Note who it is, if anybody wants to know."""
    if (note := _present.get()) is not None:
        note.caller = caller


def session_is(session_id: str) -> None:
    """Note which session it is about, if anybody wants to know."""
    if (note := _present.get()) is not None:
        note.session_id = session_id


def passed_on() -> None:
    """Note that somebody else is at work on it, if anybody wants to know."""
    if (note := _present.get()) is not None:
        note.is_passed_on = True
