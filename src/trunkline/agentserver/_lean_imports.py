"""Keeps out of an agent what its host doesn't use of picows and uvicorn.

Both packages import, with the server, what only a client or a command line needs: picows its way
through SOCKS and HTTP proxies, uvicorn its options and its reloaders. That was 15 % of the time
from an agent's spawn until it was ready, and 4 MiB in each of them. Here a stand-in is in the
place of each of the two modules while the package is imported; whoever uses what is in one gets
the real thing. A package that was imported already, or is made in another way than expected, is
left as it is.

This module is imported before all others of the host.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


class _ConnectedTransport:
    """Stands where picows asks what a proxy has given it."""


async def _connect_through_optional_proxy(*arguments: Any, **options: Any) -> Any:
    """Put the real functions in place, and call."""
    api: Any = importlib.import_module("picows.api")
    real = importlib.import_module("picows.proxy")
    api.ConnectedTransport = real.ConnectedTransport
    api.connect_through_optional_proxy = real.connect_through_optional_proxy
    return await real.connect_through_optional_proxy(*arguments, **options)


def _uvicorn_attribute(name: str) -> Any:
    """Return one of uvicorn's two names that are of its command line (PEP 562)."""
    if name not in ("main", "run"):
        raise AttributeError(f"module 'uvicorn' has no attribute {name!r}")
    package: Any = sys.modules["uvicorn"]
    real = importlib.import_module("uvicorn.main")
    package.main, package.run = real.main, real.run
    return getattr(package, name)


@contextlib.contextmanager
def _standing_in(name: str, **attributes: Any) -> Iterator[None]:
    """Have a module that is made of ``attributes`` imported under ``name``, for a while."""
    module = ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]


def _import_picows() -> None:
    with _standing_in(
        "picows.proxy",
        ConnectedTransport=_ConnectedTransport,
        WSSocketFactory=Any,
        connect_through_optional_proxy=_connect_through_optional_proxy,
    ):
        package = importlib.import_module("picows")
    # The import has bound it there, too.
    vars(package).pop("proxy", None)


def _import_uvicorn() -> None:
    with _standing_in("uvicorn.main", main=None, run=None, Server=None):
        package: Any = importlib.import_module("uvicorn")
    del package.main, package.run
    package.Server = importlib.import_module("uvicorn.server").Server
    vars(package)["__getattr__"] = _uvicorn_attribute


for _name, _import in (("picows", _import_picows), ("uvicorn", _import_uvicorn)):
    if _name not in sys.modules:
        # What isn't as expected is imported the usual way, by whoever needs it.
        with contextlib.suppress(ImportError, AttributeError):
            _import()
