"""The platform's own log: one line per event on standard error."""

import logging
import sys
import time

_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"


class _UtcFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)
    _second = (0, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        # Many lines have the same second.
        second = int(record.created)
        if second != self._second[0]:
            self._second = second, super().formatTime(record, datefmt)
        return self._second[1]


def set_up_logging(level: int = logging.INFO) -> None:
    """Send this process's log to standard error, times in UTC."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_UtcFormatter(_FORMAT, "%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # What the lines don't say needn't be found out for each of them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # These would have a line for each request to an agent, and for each step of the server.
    for name in ("httpx2", "httpcore2", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
