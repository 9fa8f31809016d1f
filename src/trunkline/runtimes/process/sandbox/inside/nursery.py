"""Keeps one version's zygote, and has sessions forked from it.

Two processes come of it, and both run code of ours alone. The first is the child of whoever started
it and does nothing but end with the other. The second, the nursery proper, is the first process of
a namespace of processes in which the zygote and all sessions that come of it live; with it they
end. Both are in a user namespace of the version's own. There the nursery may do what root may
(`enter_user_namespace`), the zygote may enter namespaces, and nobody else anything.

The zygote is a program of the version's own interpreter, ``zygote``. Importing runs code of
others, so it is in a sandbox like a session's, with nothing of a session in it.

For each session the nursery forks a ``nest``, which makes the sandbox and stays in it as its first
process. From then on it is the nursery that tells the agent whose it is, gives it that session's
folders, and opens connections in there for the platform. The agent
is the grandchild of the zygote and, once its parent has ended, the nursery's child. When the agent
ends, the nursery ends the nest, with that everything in there, and tells the platform how.

Messages from the platform: the first has a file with the order, and the cgroups the zygote joins.
Each other one is a session's: a file with its plan, its end of a control socket, and the cgroups to
join. Messages to the platform: ``ready`` with what the zygote has to say, ``lost`` when it has
ended. To a session's control socket: ``nest`` with a pidfd of that, what the nest sends, ``born``
with a pidfd of the agent that waits, ``started`` when it has been told, answers to ``connect``, and
``ended`` with the agent's code when nothing of the session is left. From there, besides
``connect``: ``be``, with the folders to bind, a file of what the agent is to run, its output and
its complaints. That may come at any time, and only once; a sandbox whose socket is closed before
is nobody's, and ends.

When the platform's process is replaced, its line ends. Then the zygote is ended, and the nursery
stays as long as its sessions do.
"""

import gc
import json
import os
import resource
import select
import signal
import socket
import sys
from typing import Any, NoReturn

from trunkline.runtimes.process.sandbox.inside import kernel
from trunkline.runtimes.process.sandbox.inside.common import CommonView
from trunkline.runtimes.process.sandbox.inside.confine import enter_user_namespace, keep_entering
from trunkline.runtimes.process.sandbox.inside.descriptors import close_all_but, to_nowhere
from trunkline.runtimes.process.sandbox.inside.init import connect_for
from trunkline.runtimes.process.sandbox.inside.messages import receive_plan, receive_with, send
from trunkline.runtimes.process.sandbox.inside.mounts import MODES, enter_view
from trunkline.runtimes.process.sandbox.inside.nest import AGENT_PID, Around, be_nest
from trunkline.runtimes.process.sandbox.inside.plan import Plan, decode, file_of
from trunkline.runtimes.process.sandbox.inside.rest import program

_MAX_BYTES = 256 * 1024
_MAX_DESCRIPTORS = 16
_NOT_RUN = 127
#: What comes of a nest: the agent, the line to it, its network and its view.
_KNOWN = 4
#: What an agent is told with: what it is to run, its output and its complaints.
_TOLD = 3
#: Where the zygote finds its line to here.
_ZYGOTE_LINE = 3
_FOR_AGENTS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Libraries notice by the number of their process that they were forked, to draw new random
#: numbers. A session's number is low, so the zygote's isn't.
_FIRST_PID = AGENT_PID + 13


def main() -> NoReturn:
    """Keep a zygote; the first argument is the path of the socket to the platform."""
    for number in _FOR_AGENTS:
        signal.signal(number, signal.SIG_IGN)
    kernel.die_with_parent(signal.SIGKILL)
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.connect(sys.argv[1])
    data, cgroups = receive_plan(line)
    order = json.loads(data)
    try:
        enter_user_namespace(tuple(order["users"]) if order["users"] else None)
        kernel.die_with_parent(signal.SIGKILL)
        kernel.unshare(kernel.CLONE_NEWPID)
        nursery = os.fork()
        if nursery == 0:
            kernel.die_with_parent(signal.SIGKILL)
            _Nursery(line, decode(json.dumps(order["zygote"]).encode())).run(
                cgroups, order["preload"]
            )
    except OSError as error:
        send(line, {"lost": error.strerror or str(error)})
        os._exit(_NOT_RUN)
    close_all_but()
    os.waitpid(nursery, 0)
    os._exit(0)


class _Session:
    """One session's processes, as far as they are known."""

    def __init__(self, nest: int, control: socket.socket, told: socket.socket) -> None:
        self.nest = nest
        self.control = control
        self.told = told
        self.told_file = told.fileno()
        self.network = self.view = self.line = -1
        self.be: tuple[list[list[str]], list[int]] | None = None
        self.is_told = False
        self.agent = 0
        self.code = -signal.SIGKILL


class _Nursery:
    def __init__(self, line: socket.socket, plan: Plan) -> None:
        self._line = line
        self._is_asked = True
        self._plan = plan
        self._zygote: socket.socket | None = None
        self._zygote_pid = 0
        self._sessions: dict[int, _Session] = {}
        """By their nest's number."""
        self._agents: dict[int, _Session] = {}
        """By their agent's."""
        self._heard: dict[int, _Session] = {}
        """By the file their nest tells by, while it may."""
        self._asked: dict[int, _Session] = {}
        """By the file the platform asks by, while it may."""
        self._resting = program()
        self._poll = select.epoll()
        self._own_space = os.open("/proc/self/ns/pid", os.O_RDONLY)
        # Who enters others' networks and views can only come back to what is its own to enter.
        kernel.unshare(kernel.CLONE_NEWNET | kernel.CLONE_NEWNS)
        # What is mounted on the machine from here on is seen, and nothing of ours is seen there.
        kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_SLAVE)
        self._own_network = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._own_view = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        self._common = CommonView(plan.root)

    def run(self, cgroups: list[int], preload: dict[str, Any]) -> NoReturn:
        wake, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._start_zygote(cgroups, preload)
        # Five for each session; nothing that comes of the zygote has this limit.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self._poll.register(wake, select.EPOLLIN)
        self._poll.register(self._line, select.EPOLLIN)
        # What is here now stays, and its pages are shared with those who are forked.
        gc.collect()
        gc.freeze()
        while self._is_asked or self._sessions:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            for session in [self._heard[each] for each in ready & self._heard.keys()]:
                self._hear(session)
            for session in [self._asked[each] for each in ready & self._asked.keys()]:
                self._answer(session)
            if wake in ready:
                os.read(wake, 4096)
            self._reap()
            if self._zygote is not None and self._zygote.fileno() in ready:
                self._pass_on(self._zygote)
            if self._is_asked and self._line.fileno() in ready:
                self._obey()
        os._exit(0)

    # The zygote

    def _start_zygote(self, cgroups: list[int], preload: dict[str, Any]) -> None:
        for _ in range(_FIRST_PID):
            passing = os.fork()
            if passing == 0:
                os._exit(0)
            os.waitpid(passing, 0)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._zygote_pid = os.fork()
        if self._zygote_pid == 0:
            self._be_zygote(theirs, cgroups)
        theirs.close()
        for descriptor in cgroups:
            os.close(descriptor)
        ours.setblocking(False)
        self._zygote = ours
        described = file_of(json.dumps(preload).encode())
        send(ours, {}, described)
        os.close(described)
        self._poll.register(ours, select.EPOLLIN)

    def _be_zygote(self, line: socket.socket, cgroups: list[int]) -> NoReturn:
        plan = self._plan
        platform = os.dup(self._line.fileno())
        try:
            kernel.die_with_parent(signal.SIGKILL)
            for descriptor in cgroups:
                os.write(descriptor, b"0")
            os.dup2(line.fileno(), _ZYGOTE_LINE, inheritable=True)
            close_all_but(_ZYGOTE_LINE, platform)
            kernel.unshare(
                kernel.CLONE_NEWNS
                | kernel.CLONE_NEWIPC
                | kernel.CLONE_NEWUTS
                | kernel.CLONE_NEWNET
                | kernel.CLONE_NEWCGROUP
            )
            kernel.bring_loopback_up()
            socket.sethostname("session")
            # Of others it sees nothing there, though they are in its namespace.
            enter_view(plan, proc_options={"hidepid": "2"})
            to_nowhere(os.O_RDWR, 0, 1, 2)
            for number in (*_FOR_AGENTS, signal.SIGPIPE, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.umask(0o077)
            os.chdir(plan.working_dir)
            keep_entering(plan.uid, bytes.fromhex(plan.filter))
            os.execve(  # noqa: S606 - no shell, and running a program is the job
                plan.command[0], plan.command, plan.environment
            )
        except OSError as error:
            with socket.socket(fileno=platform) as told:
                send(told, {"lost": error.strerror or str(error)})
            os._exit(_NOT_RUN)

    def _pass_on(self, zygote: socket.socket) -> None:
        """Tell the platform what the zygote says: once, and when it is gone."""
        try:
            data = zygote.recv(_MAX_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._lose_zygote()
        elif self._is_asked:
            send(self._line, {"ready": data.decode(errors="replace")})

    def _lose_zygote(self) -> None:
        if self._zygote is None:
            return
        self._poll.unregister(self._zygote)
        self._zygote.close()
        self._zygote = None
        if self._zygote_pid:
            os.kill(self._zygote_pid, signal.SIGKILL)
        if self._is_asked:
            send(self._line, {"lost": "the zygote ended"})

    # Sessions

    def _obey(self) -> None:
        try:
            data, files, _, _ = socket.recv_fds(self._line, _MAX_BYTES, _MAX_DESCRIPTORS)
        except ConnectionResetError:
            data, files = b"", []
        if not data:
            self._is_asked = False
            self._poll.unregister(self._line)
            self._line.close()
            self._lose_zygote()
            return
        plan_file, control_file, *others = files
        control = socket.socket(fileno=control_file)
        try:
            self._start_session(_read_plan(plan_file), control, others)
        except OSError as error:
            send(control, {"failed": error.strerror or str(error), "number": error.errno or 0})
            send(control, {"ended": _NOT_RUN})
            control.close()
        finally:
            for descriptor in (plan_file, *others):
                os.close(descriptor)

    def _start_session(self, plan: Plan, control: socket.socket, files: list[int]) -> None:
        if self._zygote is None:
            raise OSError(0, "the zygote ended")
        common = self._common.of(plan)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kernel.unshare(kernel.CLONE_NEWPID)
        try:
            nest = os.fork()
        except OSError:
            kernel.enter(self._own_space, kernel.CLONE_NEWPID)
            raise
        if nest == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._zygote.setblocking(True)
            around = Around(control, theirs, self._zygote, common, self._resting)
            be_nest(plan, around, files)
        kernel.enter(self._own_space, kernel.CLONE_NEWPID)
        theirs.close()
        ours.setblocking(False)
        session = self._sessions[nest] = _Session(nest, control, ours)
        self._heard[session.told_file] = self._asked[control.fileno()] = session
        pidfd = os.pidfd_open(nest)
        send(control, {"nest": True}, pidfd)
        os.close(pidfd)
        self._poll.register(ours, select.EPOLLIN)
        self._poll.register(control, select.EPOLLIN)

    def _hear(self, session: _Session) -> None:
        """Take the agent's process from its nest, if that has said it."""
        if session.told_file < 0:
            return
        try:
            data, files, _, _ = socket.recv_fds(session.told, 256, _KNOWN)
        except BlockingIOError:
            return
        if data and files:
            agent, session.line, session.network, session.view = files
            session.agent = _number_here(agent)
            self._agents[session.agent] = session
            send(session.control, {"born": True}, agent)
            os.close(agent)
            self._tell(session)
        if not data:
            self._stop_hearing(session)

    def _stop_hearing(self, session: _Session) -> None:
        if session.told_file >= 0:
            self._poll.unregister(session.told_file)
            del self._heard[session.told_file]
            session.told.close()
            session.told_file = -1

    def _answer(self, session: _Session) -> None:
        """Open a connection in a session's network, if the platform asks for one."""
        message, files = receive_with(session.control, _TOLD)
        if message is None:
            self._stop_answering(session)
            if not session.is_told:
                # Nobody wants it.
                os.kill(session.nest, signal.SIGKILL)
        elif "be" in message:
            session.be = message["be"], files
            self._tell(session)
        elif session.network < 0:
            # There is nobody in there yet.
            send(session.control, {"refused": message["number"]})
        else:
            kernel.enter(session.network, kernel.CLONE_NEWNET)
            try:
                connect_for(session.control, message)
            finally:
                kernel.enter(self._own_network, kernel.CLONE_NEWNET)

    def _tell(self, session: _Session) -> None:
        """Tell an agent whose it is, once it is there and that is known.

        There may be secrets in it: it is the first that it hears of its session.
        """
        if session.be is None or session.line < 0:
            return
        (binds, files), session.be = session.be, None
        try:
            self._bind(session, binds)
            with socket.socket(fileno=session.line) as line:
                session.line = -1
                socket.send_fds(line, [b"go"], files)
        except OSError as error:
            text = error.strerror or str(error)
            send(session.control, {"failed": text, "number": error.errno or 0})
            os.kill(session.nest, signal.SIGKILL)
        else:
            session.is_told = True
            send(session.control, {"started": True})
        finally:
            for descriptor in (*files, session.view):
                os.close(descriptor)
            session.view = -1

    def _bind(self, session: _Session, binds: list[list[str]]) -> None:
        """Have a session see its folders. Nothing that isn't ours has run where it can write."""
        trees: list[tuple[int, str]] = []
        try:
            for source, place, mode in binds:
                trees.append((kernel.clone_mount(source, MODES[mode]), place))
            if trees:
                kernel.enter(session.view, kernel.CLONE_NEWNS)
                try:
                    for tree, place in trees:
                        kernel.attach_mount(tree, place)
                finally:
                    kernel.enter(self._own_view, kernel.CLONE_NEWNS)
        finally:
            for tree, _ in trees:
                os.close(tree)

    def _stop_answering(self, session: _Session) -> None:
        if self._asked.pop(session.control.fileno(), None) is not None:
            self._poll.unregister(session.control)

    def _reap(self) -> None:
        while True:
            try:
                # Not taken yet: of a process that is gone, a pidfd says no number.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            pid = found.si_pid
            if pid not in self._agents and pid not in self._sessions:
                for session in list(self._sessions.values()):
                    self._hear(session)
            _, status = os.waitpid(pid, 0)
            self._take_end(pid, os.waitstatus_to_exitcode(status))

    def _take_end(self, pid: int, code: int) -> None:
        if pid == self._zygote_pid:
            self._zygote_pid = 0
            if self._zygote is not None:
                # Its last word may be why it ended.
                self._pass_on(self._zygote)
            self._lose_zygote()
        elif pid in self._sessions:
            self._bury(self._sessions.pop(pid))
        elif (session := self._agents.get(pid)) is not None:
            session.code = code
            # All else in there ends with it.
            os.kill(session.nest, signal.SIGKILL)

    def _bury(self, session: _Session) -> None:
        self._stop_hearing(session)
        self._stop_answering(session)
        if session.be is not None:
            for descriptor in session.be[1]:
                os.close(descriptor)
        for descriptor in (session.network, session.view, session.line):
            if descriptor >= 0:
                os.close(descriptor)
        self._agents.pop(session.agent, None)
        send(session.control, {"ended": session.code})
        session.control.close()


def _read_plan(file: int) -> Plan:
    with open(file, "rb", closefd=False) as opened:
        opened.seek(0)
        return decode(opened.read())


def _number_here(pidfd: int) -> int:
    """Return a process's number in our namespace, which is one below ``/proc``'s."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="utf-8") as file:
        for text in file:
            name, _, value = text.partition(":")
            if name == "NSpid":
                numbers = value.split()
                return int(numbers[1]) if len(numbers) > 1 else 0
    return 0
