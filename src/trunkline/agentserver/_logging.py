"""The host's log: one logger, its record for each closed WebSocket, and where lines go."""

import logging
import sys
from collections.abc import Callable
from typing import Final

from trunkline.agentserver._ending import Ending

LOGGER_NAME: Final = "azure.ai.agentserver"
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_FIELD: Final = f"{LOGGER_NAME}.invocations_ws."

log = logging.getLogger(LOGGER_NAME)


def check_level(level: str | None) -> str | None:
    """Return a log level's name in capitals, or say that it is none."""
    if level is None:
        return None
    name = str(level).upper()
    if name not in LEVELS:
        raise ValueError(f"Invalid log level: {level!r}; one of {', '.join(LEVELS)} is needed")
    return name


def write_to_stderr() -> None:
    """Make the log readable on stderr, unless somebody has set up logging already."""
    if log.hasHandlers():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)


def close_event(
    *,
    session_id: str,
    requested_session_id: str,
    ending: Ending,
    duration_ms: int,
    error_code: str | None,
) -> None:
    """Record that a WebSocket closed: one line for people, and fields for machines.

    The fields never hold what went wrong in words; that is in the error's own record.
    """
    if not log.isEnabledFor(logging.INFO):
        return
    fields: dict[str, object] = {
        f"{_FIELD}session_id": session_id,
        f"{_FIELD}close_code": ending.code,
        f"{_FIELD}duration_ms": duration_ms,
        f"{_FIELD}closed_by": ending.closed_by,
        f"{_FIELD}received_messages": ending.received_messages,
        f"{_FIELD}received_bytes": ending.received_bytes,
        f"{_FIELD}sent_messages": ending.sent_messages,
        f"{_FIELD}sent_bytes": ending.sent_bytes,
    }
    if requested_session_id:
        fields[f"{_FIELD}requested_session_id"] = requested_session_id
    if error_code is not None:
        fields[f"{_FIELD}error.code"] = error_code
    log.info(
        "invocations_ws connection closed: session_id=%s code=%d duration_ms=%d closed_by=%s",
        session_id,
        ending.code,
        duration_ms,
        ending.closed_by,
        extra=fields,
    )


def set_log_level(
    *, connection_string: str, log_level: str | None, enable_sensitive_data: bool
) -> None:
    """Set up observability the plain way: the host's log level, and nothing that leaves.

    It stands where another function may be given as ``configure_observability``, and takes
    what that would get.
    """
    del connection_string, enable_sensitive_data
    if log_level is not None:
        log.setLevel(log_level)


def observe(configure: Callable[..., object] | None, **options: object) -> None:
    """Have observability set up. Only a wrong value stops the start."""
    if configure is None:
        return
    try:
        configure(**options)
    except ValueError:
        raise
    except Exception:
        log.warning("setting up observability failed; going on without", exc_info=True)
