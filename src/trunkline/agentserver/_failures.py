"""Word of what an agent's own code raised, for whoever runs the agent in a test.

The host answers for its handlers: a client sees 1011 or 500, the log has the traceback. A test
wants the exception itself. In production nobody listens, and a call here does nothing.
"""

from collections.abc import Callable
from contextvars import ContextVar

Listener = Callable[[BaseException], None]

#: Set in the context that a connection, or the whole host, is served in.
listener: ContextVar[Listener | None] = ContextVar("trunkline_failure_listener", default=None)


def tell(error: BaseException) -> None:
    """Tell the listener, if there is one, of an exception that ends here."""
    listen = listener.get()
    if listen is not None:
        listen(error)
