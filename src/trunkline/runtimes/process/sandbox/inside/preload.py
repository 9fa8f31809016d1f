"""Imports what an agent's program will import, as far as a fork of that is as good as new.

The program itself isn't run, nor any other file of its author's. What they import at their top
level is read off them and imported here, one after the other; after each it is looked at what that
has left behind. Threads, open files, child processes and files on disk aren't the same in a fork,
so what leaves them is left out next time. What reads a variable of the environment is noted: it
may be another one in a session.
"""

import ast
import importlib
import importlib.machinery
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

#: The class of ``os.environ``.
_ENVIRON = type(os.environ)
_MAX_FILES = 200
_SITE = "site-packages"
#: How long a thread may take to end that nobody waits for any more.
_THREAD_ENDS_S = 0.5
#: What hosts import when they are run, not before: found by looking at ``sys.modules`` of sessions.
_COMPANIONS = {
    "uvicorn": (
        "uvicorn.lifespan.on", "uvicorn.protocols.http.httptools_impl", "uvicorn.loops.uvloop",
        "uvicorn.loops.auto", "uvicorn.protocols.http.auto",
        "uvicorn.logging",
    ),
    "trunkline.agentserver": (
        "uvicorn.lifespan.on", "uvicorn.protocols.http.httptools_impl", "uvloop", "uvicorn.logging",
        "uvicorn.loops.uvloop", "uvicorn.loops.auto", "trunkline.agentserver._rehearsal",
    ),
    "azure.ai.agentserver": (
        "hypercorn.asyncio", "hypercorn.asyncio.run", "hypercorn.config", "hypercorn.protocol.h11",
        "hypercorn.protocol.h2", "hypercorn.protocol.http_stream", "hypercorn.protocol.ws_stream",
        "opentelemetry.sdk.resources", "opentelemetry.sdk.metrics.export",
        "opentelemetry.sdk.trace.export", "opentelemetry.sdk._logs.export",
        "opentelemetry.instrumentation.logging", "microsoft.opentelemetry",
        "microsoft.opentelemetry._constants", "azure.monitor.opentelemetry.exporter",
        "azure.core.pipeline.transport", "azure.identity", "requests", "logging.config", "psutil",
        "azure.ai.agentserver.core.storage", "azure.ai.agentserver.core.tasks",
        "azure.core.pipeline.transport._bigger_block_size_http_adapters",
        "azure.core.pipeline.transport._requests_basic",
        "azure.monitor.opentelemetry.exporter._configuration._worker",
        "azure.monitor.opentelemetry.exporter.statsbeat.customer._manager",
        "microsoft.opentelemetry._agent_framework._span_enricher",
        "microsoft.opentelemetry._agent_framework._span_processor",
        "microsoft.opentelemetry._agent_framework._trace_instrumentor",
        "microsoft.opentelemetry._agent_framework._utils",
        "microsoft.opentelemetry._genai._langchain._tracer_instrumentor",
        "microsoft.opentelemetry._sdkstats._config",
        "microsoft.opentelemetry._sdkstats._network_metrics",
        "microsoft.opentelemetry._semantic_kernel._span_processor",
        "microsoft.opentelemetry._semantic_kernel._trace_instrumentor",
        "microsoft.opentelemetry.a365.core.enricher_utils",
        "microsoft.opentelemetry.a365.core.exporters.enriching_span_processor",
    ),
}  # fmt: skip


@dataclass
class Preloaded:
    """What was imported."""

    modules: list[str] = field(default_factory=list)
    reads: dict[str, str] = field(default_factory=dict)
    """Variables that were read, and the module whose import did."""
    sets: dict[str, str | None] = field(default_factory=dict)
    """Variables that imports have set, or removed."""


class LeftOutError(Exception):
    """A module mustn't be preloaded. This process isn't fit for forking any more."""

    def __init__(self, module: str, reason: str) -> None:
        super().__init__(f"{module}: {reason}")
        self.module = module
        self.reason = reason


def wanted_modules(script: str, folder: str) -> list[str]:
    """Return what a program imports at its top level, by itself or through files of its folder."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    waiting = [script]
    while waiting and len(seen) < _MAX_FILES:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        try:
            with open(path, "rb") as file:
                tree = ast.parse(file.read())
        except (OSError, SyntaxError, ValueError):
            continue
        for name, parts in _imports(tree.body):
            own = _own_files(name, parts, folder)
            if own is None:
                found[name] = None
                for part in parts:
                    found[f"{name}.{part}"] = None
            else:
                waiting += own
    return list(found)


def _imports(body: list[ast.stmt]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for statement in body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                yield alias.name, ()
        elif isinstance(statement, ast.ImportFrom):
            if statement.level == 0 and statement.module and statement.module != "__future__":
                yield (
                    statement.module,
                    tuple(alias.name for alias in statement.names if alias.name != "*"),
                )
        elif isinstance(statement, ast.Try):
            yield from _imports(statement.body)


def _own_files(name: str, parts: tuple[str, ...], folder: str) -> list[str] | None:
    """Return the author's files that an import runs; None if it isn't of the author's."""
    first = name.partition(".")[0]
    if first in sys.builtin_module_names or first in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.machinery.PathFinder.find_spec(first)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or ())
    origin = os.path.realpath(spec.origin or (places[0] if places else ""))
    root = os.path.realpath(folder) + os.sep
    if not origin.startswith(root) or f"{os.sep}{_SITE}{os.sep}" in origin:
        return None
    files = [spec.origin] if spec.origin else []
    for dotted in (name, *(f"{name}.{part}" for part in parts)):
        rest = dotted.split(".")[1:]
        for place in places:
            for depth in range(1, len(rest) + 1):
                path = os.path.join(place, *rest[:depth])
                files += [
                    one for one in (f"{path}.py", f"{path}/__init__.py") if os.path.exists(one)
                ]
    return [file for file in files if file]


def preload(script: str, folder: str, left_out: dict[str, str]) -> Preloaded:
    """Import what the program will, but for what is left out.

    Raises:
        LeftOutError: If one more has to be.
    """
    done = Preloaded()
    before = dict(os.environ)
    recorder = _record(done)
    names = wanted_modules(script, folder)
    before_import = _traces()
    try:
        for name in names + _companions(names):
            if any(name == out or name.startswith(f"{out}.") for out in left_out):
                continue
            recorder.module = name
            if not _import(name):
                continue
            _check(name, recorder, before_import)
            done.modules.append(name)
    finally:
        recorder.stop()
    after = dict(os.environ)
    done.sets = {name: value for name, value in after.items() if before.get(name) != value}
    done.sets |= dict.fromkeys(before.keys() - after.keys())
    done.modules = sorted({name for name in done.modules if name in sys.modules})
    return done


def _companions(names: list[str]) -> list[str]:
    return [
        companion
        for root, companions in _COMPANIONS.items()
        if any(name == root or name.startswith(f"{root}.") for name in names)
        for companion in companions
    ]


def _import(name: str) -> bool:
    """Import a module; tell whether there was one."""
    parent, _, last = name.rpartition(".")
    if parent in sys.modules and hasattr(sys.modules[parent], last):
        # Something in a module, or a part that is imported already.
        return name in sys.modules
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (error.name == name or name.startswith(f"{error.name}.")):
            return False
        raise LeftOutError(name, f"importing it fails: {error}") from error
    except BaseException as error:
        # It may fail in a session, too, and its author sees it then.
        raise LeftOutError(name, f"importing it fails: {type(error).__name__}") from error
    return True


@dataclass(frozen=True)
class _Traces:
    """What imports may leave behind."""

    opened: dict[str, str]
    """Open files, and what they are."""
    written: frozenset[str]


def _traces() -> _Traces:
    # $HOME is in there, too, and versions may be below it.
    return _Traces(_open_files(), frozenset(os.listdir("/tmp")))  # noqa: S108 - the sandbox's own


def _check(name: str, recorder: "_Recorder", before: _Traces) -> None:
    """Look at what an import has left behind.

    Raises:
        LeftOutError: If a fork wouldn't have it.
    """
    if not is_alone():
        raise LeftOutError(name, "it starts threads when it is imported")
    after = _traces()
    if opened := after.opened.keys() - before.opened.keys():
        what = after.opened[min(opened)]
        raise LeftOutError(name, f"it leaves {what.partition(':[')[0]} open when it is imported")
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        pass
    else:
        raise LeftOutError(name, "it starts processes when it is imported")
    if after.written != before.written:
        raise LeftOutError(name, "it writes files when it is imported")
    if recorder.read_all:
        raise LeftOutError(name, "it reads the whole environment when it is imported")


def is_alone() -> bool:
    """Tell whether this is the process's only thread, or will be in a moment.

    One that has been waited for is gone from Python before it is from the kernel.
    """
    until = time.monotonic() + _THREAD_ENDS_S
    while len(os.listdir("/proc/self/task")) > 1:
        if time.monotonic() > until:
            return False
        time.sleep(_THREAD_ENDS_S / 100)
    return True


def _open_files() -> dict[str, str]:
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            # What listed them.
            continue
    return found


class _Recorder:
    """Notes who reads which variables of the environment."""

    def __init__(self, done: Preloaded) -> None:
        self.module = ""
        self.read_all = False
        self._done = done

    def note(self, name: object) -> None:
        """Take a variable that is read."""
        if isinstance(name, str):
            self._done.reads.setdefault(name, self.module)

    def stop(self) -> None:
        """Note no more."""
        os.environ.__class__ = _ENVIRON


def _record(done: Preloaded) -> _Recorder:
    recorder = _Recorder(done)

    class Recording(_ENVIRON):  # type: ignore[misc, valid-type]
        def __getitem__(self, key: str) -> str:
            recorder.note(key)
            value: str = super().__getitem__(key)
            return value

        def __iter__(self) -> Iterator[str]:
            recorder.read_all = True
            names: Iterator[str] = super().__iter__()
            return names

    # In its place: modules hold on to it.
    os.environ.__class__ = Recording
    return recorder
