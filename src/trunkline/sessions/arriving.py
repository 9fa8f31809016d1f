"""Takes over the sessions of the process that this one replaces."""

import base64
import time
from collections.abc import Callable
from typing import Any

from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionId, SessionKey, VersionId
from trunkline.runtimes.interface import Instance, InstanceSpec, Launch, LogStream, Passed, Runtime
from trunkline.sessions.homes import SessionHomes
from trunkline.sessions.log import SessionLog, SessionLogs
from trunkline.sessions.slot import Hold, Slot

_NO_LAUNCH = Launch(command=(), working_dir="", environment={})


def key_from(names: list[str]) -> SessionKey:
    """Return the key that was passed as three names."""
    project, agent, session_id = names
    return SessionKey(ProjectName(project), AgentName(agent), SessionId(session_id))


class Arriving:
    """The way in for the sessions of another process, and the leases it still holds."""

    def __init__(
        self,
        *,
        node: NodeId,
        runtime: Runtime,
        homes: SessionHomes,
        logs: SessionLogs,
        watch: Callable[[Slot, Instance, SessionLog, float | None], None],
        on_return: Callable[[Slot], None],
    ) -> None:
        self._node = node
        self._runtime = runtime
        self._homes = homes
        self._logs = logs
        self._watch = watch
        self._on_return = on_return
        #: The leases that the other process holds, and the agent they are on.
        self._leases: dict[SessionKey, tuple[Slot, Instance, int]] = {}

    def take_over(self, passed: Passed) -> None:
        """Look after a session from here on; it runs."""
        data: dict[str, Any] = dict(passed.data)
        key = key_from(data["key"])
        slot = Slot(key, data["home"])
        slot.version = VersionId(data["version"])
        # Older platforms don't say: it is as if it had just been started.
        slot.running_since = data.get("running_since", time.monotonic())
        slot.idle_timeout_s = data["idle_timeout_s"]
        # One that wasn't passed on comes from a platform that didn't know how to freeze.
        slot.suspend_after_s = data.get("suspend_after_s", 0.0)
        slot.leases = data["leases"]
        log = self._logs.of(slot.home)
        log.take_over(
            {LogStream(name): base64.b64decode(rest) for name, rest in data["unfinished"].items()}
        )
        log.hide(data.get("hidden", {}))
        instance = self._runtime.take_over(
            InstanceSpec(
                key=key,
                version=slot.version,
                launch=_NO_LAUNCH,
                home=self._homes.path(slot.home),
                environment={},
                node=self._node,
                ready_timeout_s=0,
                stop_timeout_s=data["instance"]["stop_timeout_s"],
            ),
            log,
            Passed(data["instance"], passed.files),
        )
        if slot.leases:
            self._leases[key] = slot, instance, slot.leases
        self._watch(slot, instance, log, data["idle_left_s"])

    def lease_returned(self, key: SessionKey) -> None:
        """Count one lease less of those that the other process holds.

        Raises:
            KeyError: If it holds none.
        """
        slot, _ = self._take_lease(key)
        self._on_return(slot)

    def lease_moved(self, key: SessionKey) -> Hold:
        """Return a lease that the other process held, for this one to hold.

        Raises:
            KeyError: If it holds none.
        """
        slot, instance = self._take_lease(key)
        return Hold(slot, instance, self._logs.of(slot.home), self._on_return)

    async def lease_moved_here(self, key: SessionKey) -> Hold:
        """Return such a lease, for a connection that this process relays itself."""
        return self.lease_moved(key)

    def lease_stays(self, hold: Hold) -> None:
        """Let the other process hold a lease that was moved: its connection wasn't."""
        hold.forget()
        if hold.key in self._leases:
            slot, instance, left = self._leases[hold.key]
            self._leases[hold.key] = slot, instance, left + 1

    def _take_lease(self, key: SessionKey) -> tuple[Slot, Instance]:
        slot, instance, left = self._leases[key]
        if not left:
            raise KeyError(key)
        self._leases[key] = slot, instance, left - 1
        return slot, instance

    def predecessor_ended(self) -> None:
        """Count no leases for the other process any more."""
        for key, (_, _, left) in self._leases.items():
            for _ in range(left):
                self.lease_returned(key)
        self._leases.clear()
