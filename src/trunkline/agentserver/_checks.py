"""What is checked about handlers and arguments, and how things are named in messages."""

import functools
import inspect
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

import trunkline


def own_version() -> str:
    """Return the first segment of ``x-platform-server``."""
    major, minor, *_ = sys.version_info
    return f"trunkline-agentserver/{trunkline.__version__} (python/{major}.{minor})"


def check_type(name: str, value: object, wanted: type) -> None:
    """Refuse an argument of another type; None is fine."""
    if value is not None and not isinstance(value, wanted):
        raise TypeError(f"{name} must be {wanted.__name__}, not {type(value).__name__}")


def check_size(name: str, value: int) -> int:
    """Return an argument that is a number of bytes, or say what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a number of bytes, not {type(value).__name__}")
    if value <= 0:
        raise ValueError(f"{name} must be positive, not {value}")
    return value


def check_coroutine_function(handler: object, what: str) -> None:
    """Refuse a handler that is no coroutine function."""
    function = handler
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{what} must be an async function, and {name_of(handler)} is not")


def check_one_argument(handler: Callable[..., object]) -> None:
    """Refuse a WebSocket handler that cannot be called with the WebSocket alone."""
    try:
        inspect.signature(handler).bind(None)
    except TypeError as error:
        raise TypeError(
            f"ws_handler: {name_of(handler)} must take a single positional argument, the "
            f"WebSocket ({error})"
        ) from None


def name_of(handler: object) -> str:
    """Return what to call a handler in a message."""
    return getattr(handler, "__qualname__", None) or repr(handler)


def origin(url: str) -> str:
    """Return scheme, host and port of a URL, and nothing else of it."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else ""
