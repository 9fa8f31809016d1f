"""The platform's own log: one line per event on standard error."""

import logging
import sys
import time

_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"


class _UtcFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)


def set_up_logging(level: int = logging.INFO) -> None:
    """Send this process's log to standard error, times in UTC."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_UtcFormatter(_FORMAT, "%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # These would have a line for each request to an agent, and for each step of the server.
    for name in ("httpx2", "httpcore2", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
