"""What the gateway asks of sessions, wherever they are looked after."""

from collections.abc import Mapping
from typing import Any, Protocol

from trunkline.auth.caller import Caller
from trunkline.protocol.ids import SessionKey
from trunkline.runtimes.interface import Address, ExitStatus
from trunkline.sessions.suspension import Sleeper


class Log(Protocol):
    """A session's log."""

    def event(self, reason: str, message: str) -> None:
        """Write what happened."""


class Held(Protocol):
    """What keeps a session's agent running."""

    @property
    def key(self) -> SessionKey:
        """The session's key."""

    @property
    def address(self) -> Address:
        """Where its agent listens."""

    @property
    def log(self) -> Log:
        """Its log."""

    async def wait_exited(self) -> ExitStatus:
        """Wait for the agent's process to end."""

    def rests_with(self, sleeper: Sleeper) -> None:
        """Let the agent sleep while a connection of this lease has no need of it."""

    def stay_awake(self, why: str) -> None:
        """Have the agent go on, if it is frozen, and freeze it no more."""

    def connection_ended(self, event: Mapping[str, Any], words: str) -> None:
        """Keep how its connection went, count what went over it, and give it back.

        Args:
            event: What is kept.
            words: The same for the session's log.
        """

    def used_by(self, request_id: str, address: str, version: str, began_at: float) -> None:
        """Say which connection it is for, for whoever has to tell of its end otherwise.

        Args:
            request_id: The upgrade's id.
            address: The client's address.
            version: The session's version.
            began_at: Since when it is relayed, by the monotonic clock.
        """

    def let_go(self) -> None:
        """Leave it to another process, which holds it from here on."""

    def release(self) -> None:
        """Give it back. Twice is fine."""


class Version(Protocol):
    """A version of an agent."""

    @property
    def version(self) -> str:
        """Its id."""


class Lease(Held, Protocol):
    """The right to talk to a session's agent."""

    @property
    def version(self) -> Version:
        """The version it runs."""


class Sessions(Protocol):
    """Who has sessions started, and gives leases on them."""

    @property
    def is_passed_on(self) -> bool:
        """Whether another process has taken this one's place."""

    def acquire_now(self, key: SessionKey, caller: Caller, *, protocol: str) -> Lease | None:
        """Return a lease on a session that runs here, if nothing has to be waited for.

        None if something has to be, or if it can't be had: `acquire` says why.
        """

    async def acquire(
        self, key: SessionKey, caller: Caller, *, protocol: str, is_named: bool = True
    ) -> Lease:
        """Return a lease on a session, which is started if need be.

        Who hasn't named one may get a lease on another than is asked for.

        Raises:
            SessionElsewhereError: If another process of the platform runs it.
            TrunklineError: If it can't be had.
        """
