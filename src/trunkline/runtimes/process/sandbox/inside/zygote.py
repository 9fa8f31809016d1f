"""A program's interpreter with its imports done, from which sessions are forked.

It runs on the version's own interpreter, of which nothing but the standard library is taken for
granted, and is loaded from a copy: what an agent imports by the name of this package is its own.
It has one thread, no event loop, no network, nothing of a session, and one socket, to the nursery.

A session's request has the socket to its ``nest``, the namespaces to enter and the cgroups to join.
The child of the child that is forked for it becomes the session's user, without capabilities and
behind the agents' filter, and says so to the nest. When that has looked at it, and a session is to
be had, it gets its output, and learns what it is to run and with which environment.
"""

import atexit
import builtins
import contextlib
import gc
import importlib.machinery
import io
import json
import os
import random
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
import types
import wsgiref.handlers
from collections.abc import Mapping
from typing import Any, NoReturn

from trunkline.runtimes.process.sandbox.inside import kernel
from trunkline.runtimes.process.sandbox.inside.confine import give_up_powers
from trunkline.runtimes.process.sandbox.inside.density import gather_code, take_free_places
from trunkline.runtimes.process.sandbox.inside.descriptors import close_all_but
from trunkline.runtimes.process.sandbox.inside.installed import remember_installed
from trunkline.runtimes.process.sandbox.inside.pages import make_own
from trunkline.runtimes.process.sandbox.inside.preload import (
    LeftOutError,
    Preloaded,
    is_alone,
    preload,
)
from trunkline.runtimes.process.sandbox.inside.trial import (
    Noted,
    code_of_a_session,
    written_by_a_session,
)

_LINE = 3
_MAX_BYTES = 64 * 1024
_MAX_DESCRIPTORS = 20
_SPACES = (
    kernel.CLONE_NEWPID,
    kernel.CLONE_NEWNET,
    kernel.CLONE_NEWIPC,
    kernel.CLONE_NEWUTS,
    kernel.CLONE_NEWCGROUP,
    kernel.CLONE_NEWNS,
    kernel.CLONE_NEWUSER,
)
#: What starts and ends trunkline's host once, where a program uses that.
_REHEARSAL = "trunkline.agentserver._rehearsal"
#: Python makes code quick that has run eight times.
_REHEARSALS = 10
#: What a child is told that is to wait for a session.
_WAIT = b"wait"
#: What it is to be, its output, and its complaints.
_TOLD = 3
_PACKAGE = "trunkline"
#: What all kinds of files are, also those that are written in C.
_FILE: type = io.IOBase.__base__  # type: ignore[assignment]
#: What Python sets itself when it is started without a locale.
_COERCED = "LC_CTYPE"


def main(library: str) -> NoReturn:
    """Preload, serve, and in each child run the program to its end.

    Args:
        library: Where this was loaded from.
    """
    line = socket.socket(fileno=_LINE)
    line.set_inheritable(False)
    _, (described, *_), _, _ = socket.recv_fds(line, _MAX_BYTES, 1)
    with open(described, "rb") as file:
        file.seek(0)
        order = json.load(file)
    _forget(library)
    script = os.path.join(order["folder"], order["command"][order["script_at"]])
    folder = order["folder"]
    _see_as_program(script)
    gc.disable()
    try:
        loaded = preload(script, folder, order["left_out"])

        def play(environment: Mapping[str, str], code: types.CodeType) -> NoReturn:
            close_all_but()
            given = {"environment": environment, "command": order["command"]}
            _become(given | {"working_dir": folder}, loaded, order["script_at"])
            _run(script, code)

        run = code_of_a_session(play)
        gather_code(frozenset(run))
        run.forget()
        if not all(_play_host() for _ in range(_REHEARSALS)):
            raise LeftOutError(_REHEARSAL, "a host that ends leaves threads or open files")
    except LeftOutError as error:
        line.send(json.dumps({"left_out": [error.module, error.reason]}).encode())
        os._exit(0)
    code = _compiled(script)
    failures = _prepare()
    written = written_by_a_session(play)
    ready = {"modules": loaded.modules, "reads": loaded.reads, "failures": failures}
    line.send(json.dumps(ready).encode())
    given = _serve(line, written)
    line.detach()
    _become(given, loaded, order["script_at"])
    _run(script, code)


def _forget(library: str) -> None:
    """Leave no trace of this package where the agent's own may be looked for."""
    sys.path[:] = [path for path in sys.path if path != library]
    sys.path_importer_cache.pop(library, None)
    for name in list(sys.modules):
        if name == _PACKAGE or name.startswith(f"{_PACKAGE}."):
            del sys.modules[name]


def _see_as_program(script: str) -> None:
    """Look modules up where the program does."""
    if not sys.flags.safe_path:
        sys.path.insert(0, os.path.dirname(os.path.realpath(script)))


def _compiled(script: str) -> types.CodeType | None:
    """Compile the program; it says itself what is wrong if that can't be done."""
    try:
        with open(script, "rb") as file:
            code: types.CodeType = compile(file.read(), script, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        return None
    return code


def _prepare() -> list[str]:
    """Do once what each session would do, and leave few pages for it to write to.

    Returns:
        What couldn't be done, for the platform's log.
    """
    if (ssl := sys.modules.get("ssl")) is not None:
        # It makes itself ready when it is first asked, and draws anew where it was forked.
        ssl.RAND_status()
    failures = remember_installed()
    gc.collect()
    take_free_places()
    gc.freeze()
    return failures


def _rehearse(written: Noted) -> None:
    """Do what any session does for the first time, while nobody waits for one.

    What it writes to isn't shared any more then, and that takes longer than what it does.
    """
    make_own(written.pairs())
    written.forget()
    time.tzset()
    wsgiref.handlers.read_environ()
    _draw_anew()


def _play_host() -> bool:
    """Start and end trunkline's host if the program has it; tell whether nothing is left of it."""
    if (rehearsal := sys.modules.get(_REHEARSAL)) is None:
        return True
    before = set(os.listdir("/proc/self/fd"))
    # Whatever is wrong there, a session is to tell its author.
    with contextlib.suppress(Exception):
        rehearsal.rehearse()
    return set(os.listdir("/proc/self/fd")) == before and is_alone()


def _serve(line: socket.socket, written: Noted) -> dict[str, Any]:
    """Have children; in each, return what it is to be.

    Args:
        line: Says of what.
        written: What a session writes to.
    """
    while True:
        data, files, _, _ = socket.recv_fds(line, _MAX_BYTES, _MAX_DESCRIPTORS)
        if not data:
            os._exit(0)
        child = os.fork()
        if child == 0:
            return _enter(json.loads(data), list(files), written)
        for descriptor in files:
            os.close(descriptor)
        # It ends at once: it has its own child in another namespace.
        os.waitpid(child, 0)


def _enter(request: dict[str, Any], files: list[int], written: Noted) -> dict[str, Any]:
    nest = socket.socket(fileno=files[0])
    spaces, cgroups = files[1 : len(_SPACES) + 1], files[len(_SPACES) + 1 :]
    try:
        for descriptor in cgroups:
            os.write(descriptor, b"0")
        for descriptor, kind in zip(spaces, _SPACES, strict=True):
            kernel.enter(descriptor, kind)
        if os.fork() != 0:
            os._exit(0)
        os.setsid()
        close_all_but(nest.fileno())
        give_up_powers(request["uid"], bytes.fromhex(request["filter"]))
    except OSError as error:
        nest.send((error.strerror or str(error)).encode())
        os._exit(127)
    nest.send(b"born")
    data, told, _, _ = socket.recv_fds(nest, _MAX_BYTES, _TOLD)
    if data == _WAIT:
        _rehearse(written)
        _, told, _, _ = socket.recv_fds(nest, _MAX_BYTES, _TOLD)
    if len(told) != _TOLD:
        os._exit(127)
    described, *outputs = told
    for output, number in zip(outputs, (1, 2), strict=True):
        os.dup2(output, number)
        os.close(output)
    with open(described, "rb") as file:
        file.seek(0)
        given: dict[str, Any] = json.load(file)
    nest.close()
    return given


def _become(given: dict[str, Any], loaded: Preloaded, script_at: int) -> None:
    """Be as a program just started is, with its own environment, arguments and chance."""
    coerced = {name: os.environ[name] for name in (_COERCED,) if name in os.environ}
    os.environ.clear()
    os.environ.update(coerced | given["environment"])
    for name, value in loaded.sets.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    wsgiref.handlers.BaseHandler.os_environ = wsgiref.handlers.read_environ()
    time.tzset()
    kernel.show_to_own_user()
    _draw_anew()
    command = given["command"]
    sys.orig_argv[:] = command
    sys.argv[:] = command[script_at:]
    with contextlib.suppress(OSError):
        os.chdir(given["working_dir"])
    gc.enable()


def _draw_anew() -> None:
    """Have random numbers and names that no other session has."""
    random.seed()
    tempfile._name_sequence = None  # type: ignore[attr-defined] # noqa: SLF001
    if (uuid := sys.modules.get("uuid")) is not None:
        # A machine of its own, which each process has where there is no interface. The C library
        # would go on with the one that it has drawn, so it isn't asked.
        uuid._generate_time_safe = uuid._last_timestamp = None  # type: ignore[attr-defined] # noqa: SLF001
        uuid._node = secrets.randbits(48) | 1 << 40  # type: ignore[attr-defined] # noqa: SLF001
    if (ssl := sys.modules.get("ssl")) is not None:
        # It draws anew by itself when its process has another number, which ours has.
        ssl.RAND_add(os.urandom(32), 32.0)
    if (numpy := sys.modules.get("numpy.random")) is not None:
        numpy.seed()


def _run(script: str, code: types.CodeType | None) -> NoReturn:
    """Run the program as ``__main__``, and end as it does."""
    module = types.ModuleType("__main__")
    module.__dict__.update(
        __file__=script,
        __cached__=None,
        __builtins__=builtins,
        __loader__=importlib.machinery.SourceFileLoader("__main__", script),
    )
    sys.modules["__main__"] = module
    try:
        if code is None:
            with open(script, "rb") as file:
                code = compile(file.read(), script, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - running the program is the job
    except SystemExit as error:
        _leave(_status_of(error))
    except BaseException as error:  # noqa: BLE001 - as Python itself does
        _end_by(error)
    _leave(0)


def _status_of(error: SystemExit) -> int:
    """Return what Python would end with, and say what it would say."""
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(error.code, file=sys.stderr)  # noqa: T201 - as Python itself does
    return 1


def _leave(status: int) -> NoReturn:
    """End as a program does, but for taking everything apart first.

    That would write to all that is shared with the zygote, and so copy it, to throw it away.
    """
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001
    # Those of before the fork aren't among them.
    files = [each for each in gc.get_objects() if issubclass(type(each), _FILE)]
    for file in (*files, sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            file.flush()
    os._exit(status)


def _end_by(error: BaseException) -> NoReturn:
    """End as a program does that raised this; what is above it in the stack is ours."""
    trace = error.__traceback__
    error.__traceback__ = trace.tb_next if trace is not None else None
    sys.excepthook(type(error), error, error.__traceback__)
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    _leave(1)
