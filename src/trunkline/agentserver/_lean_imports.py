"""Keeps out of an agent what its host doesn't use of picows and uvicorn.

Both packages import, with what the host is built on, what only others need: picows its own
connections and servers, with a transport library and a way through proxies behind them; uvicorn
its command line, its reloaders and the reading of configurations of the logs. That was a fifth of
the time from an agent's spawn until it was ready, and 6 MiB in each of them. Here stand-ins are
in the places of such modules while a package is imported; whoever uses what is in one gets the
real thing. A package that was imported already, or is made in another way than expected, is left
as it is.

This module is imported before all others of the host.
"""

import contextlib
import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

_AIOFASTNET: Final = "aiofastnet"
_CONFIG: Final = "logging.config"


@contextlib.contextmanager
def _standing_in(name: str, **attributes: Any) -> Iterator[None]:
    """Have a module that is made of ``attributes`` imported under ``name``, for a while."""
    sys.modules[name] = _module(name, **attributes)
    try:
        yield
    finally:
        del sys.modules[name]


def _module(name: str, **attributes: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(attributes)
    return module


def _import_without(package: str, module: str, *names: str) -> None:
    """Import a package without one of its modules, whose ``names`` it makes its own.

    They are there when they are asked for (PEP 562).
    """
    whole = f"{package}.{module}"
    with _standing_in(whole, **dict.fromkeys(names)):
        importlib.import_module(package)
    contents = vars(sys.modules[package])
    # The import has bound the module there, too.
    for name in {module, *names}:
        contents.pop(name, None)

    def find(name: str) -> Any:
        if name != module and name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        real = importlib.import_module(whole)
        contents.update({found: getattr(real, found) for found in names})
        return contents[name]

    contents["__getattr__"] = find


def _import_picows() -> None:
    _import_without("picows", "api", "ws_connect", "ws_create_server")


class _Logging(ModuleType):
    """``logging`` for who relies on having imported ``logging.config``, too."""

    def __getattr__(self, name: str) -> Any:
        return importlib.import_module(_CONFIG) if name == "config" else getattr(logging, name)


def _import_uvicorn() -> None:
    is_loaded = _CONFIG in sys.modules
    with contextlib.nullcontext() if is_loaded else _standing_in(_CONFIG):
        _import_without("uvicorn", "main", "main", "run", "Server")
        server = importlib.import_module("uvicorn.server")
    vars(sys.modules["uvicorn"])["Server"] = server.Server
    if not is_loaded:
        # The server makes its loggers itself; a configuration that is given a file takes this.
        vars(sys.modules["uvicorn.config"])["logging"] = _Logging("logging")


#: picows asks of every connection whether it is one of its transport library's, and loads that
#: library to ask. None can be before somebody else has loaded it.
_NO_AIOFASTNET = _module(_AIOFASTNET, Transport=type("Transport", (), {}))


def without_aiofastnet(work: Callable[[], None]) -> None:
    """Do what would load picows's transport library only to look for one of its types."""
    if _AIOFASTNET in sys.modules:
        work()
        return
    sys.modules[_AIOFASTNET] = _NO_AIOFASTNET
    try:
        work()
    finally:
        del sys.modules[_AIOFASTNET]


for _name, _import in (("picows", _import_picows), ("uvicorn", _import_uvicorn)):
    if _name not in sys.modules:
        # What isn't as expected is imported the usual way, by whoever needs it.
        with contextlib.suppress(ImportError, AttributeError):
            _import()
