"""Keeps what all sessions of a version see built, for each to enter a copy of it.

Building it takes a hundred system calls; copying it takes one. It is built anew when something of
it isn't what it was: another mount of the machine's, another file where one was replaced, another
plan.
"""

import os
import select
from dataclasses import replace
from typing import Any

from trunkline.runtimes.process.sandbox.inside import kernel
from trunkline.runtimes.process.sandbox.inside.mounts import enter_common
from trunkline.runtimes.process.sandbox.inside.plan import Plan

_VIEW = "/proc/self/ns/mnt"


class CommonView:
    """The view that a nursery's sessions have in common. For one thread that may mount."""

    def __init__(self, root: str) -> None:
        """Prepare.

        Args:
            root: An empty directory to build it on.
        """
        self._root = root
        self._own = os.open(_VIEW, os.O_RDONLY)
        self._built = -1
        self._of: Any = None
        #: The kernel says here that something was mounted, or isn't any more.
        self._mounts = os.open("/proc/self/mounts", os.O_RDONLY)
        self._news = select.poll()
        self._news.register(self._mounts, select.POLLPRI)

    def of(self, plan: Plan) -> int:
        """Return a mount namespace with what a plan's session sees, but for what is its own.

        It is an open file that stays ours. Nobody is to enter the namespace but to leave it for a
        copy.

        Raises:
            OSError: If the kernel refuses a part of it; it names which.
        """
        what = _described(plan)
        has_news = bool(self._news.poll(0))
        if self._built < 0 or has_news or what != self._of:
            if self._built >= 0:
                os.close(self._built)
                self._built = -1
            self._built = self._build(plan)
            self._of = what
        return self._built

    def _build(self, plan: Plan) -> int:
        mask = os.umask(0)
        kernel.unshare(kernel.CLONE_NEWNS)
        try:
            # Once we have moved in, there is no ``/proc``.
            built = os.open(_VIEW, os.O_RDONLY)
            try:
                enter_common(replace(plan, root=self._root))
            except OSError:
                os.close(built)
                raise
        finally:
            kernel.enter(self._own, kernel.CLONE_NEWNS)
            os.umask(mask)
        return built


def _described(plan: Plan) -> Any:
    places = [place for place, _ in plan.own_files]
    files = [os.stat(source) for source, _, _ in plan.binds]
    identities = [(file.st_dev, file.st_ino) for file in files]
    return plan.binds, plan.links, plan.files, plan.places, places, identities
