"""What a worker asks the main process for: sessions, and the little of the store it needs."""

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from trunkline.aio.channel import Channel
from trunkline.aio.passing import PassingError
from trunkline.auth.caller import Caller
from trunkline.gateway.live import ErrorsToday
from trunkline.platform.workers.words import error_from, key_words, record_from, record_words
from trunkline.protocol.errors import UnavailableError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, SessionKey
from trunkline.runtimes.interface import Address, ExitStatus
from trunkline.sessions.arriving import key_from
from trunkline.sessions.elsewhere import SessionElsewhereError
from trunkline.sessions.suspension import Sleeper
from trunkline.store.records import (
    ApiKeyRecord,
    AuditRecord,
    NodeRecord,
    RevocationRecord,
    TicketRecord,
)

_R = TypeVar("_R")


class Main:
    """The main process, as a worker sees it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def tell(self, do: str, **words: Any) -> None:
        """Tell it something."""
        self._channel.tell({"do": do, **words})

    async def ask(self, do: str, **words: Any) -> dict[str, Any]:
        """Ask it for something.

        Raises:
            TrunklineError: What it raised there.
            UnavailableError: If it is gone.
        """
        try:
            answer = await self._channel.ask({"do": do, **words})
        except PassingError:
            raise UnavailableError("the platform is stopping; connect again") from None
        if "error" in answer or "elsewhere" in answer:
            raise error_from(answer)
        return answer


class _Version:
    """The version that a session runs."""

    __slots__ = ("version",)

    def __init__(self, version: str) -> None:
        self.version = version


class _Log:
    """A session's log, which the main process keeps."""

    __slots__ = ("_lease", "_main")

    def __init__(self, main: Main, lease: int) -> None:
        self._main = main
        self._lease = lease

    def event(self, reason: str, message: str) -> None:
        """Have an event written."""
        self._main.tell("event", lease=self._lease, reason=reason, message=message)


class RemoteLease:
    """A lease that the main process holds for a connection of this one."""

    __slots__ = ("_is_held", "_main", "_number", "address", "key", "log", "version")

    def __init__(self, main: Main, key: SessionKey, words: Mapping[str, Any]) -> None:
        self._main = main
        self._number: int = words["lease"]
        self._is_held = True
        self.key = key
        self.address = Address(words["path"], words["port"])
        self.version = _Version(words["version"])
        self.log = _Log(main, self._number)

    async def wait_exited(self) -> ExitStatus:
        """Wait for the agent's process to end."""
        try:
            answer = await self._main.ask("exited", lease=self._number)
        except UnavailableError:
            # The kernel is about to end this process, too.
            await asyncio.get_running_loop().create_future()
            raise
        return ExitStatus(answer["code"], answer["signal"], answer["why"])

    def connection_ended(self, event: Mapping[str, Any], words: str) -> None:
        """Have it kept how its connection went, and give it back."""
        # In one message: when many end at once, each is work for both processes.
        if self._is_held:
            self._is_held = False
            self._main.tell("ended", lease=self._number, event=event)

    def used_by(self, request_id: str, address: str, version: str, began_at: float) -> None:
        """Say which connection it is for, in case that this process ends without a word."""
        self._main.tell(
            "used",
            lease=self._number,
            request_id=request_id,
            address=address,
            version=version,
            began_at=began_at,
        )

    def rests_with(self, sleeper: Sleeper) -> None:
        """Do nothing: only who relays knows when a connection rests, so its agent stays awake."""

    def stay_awake(self, why: str) -> None:
        """Do nothing: it does, while this lease is held."""

    def let_go(self) -> None:
        """Leave it to another process, which holds it from here on."""
        self._give_back("let go")

    def release(self) -> None:
        """Give it back. Twice is fine."""
        self._give_back("release")

    def _give_back(self, do: str) -> None:
        if self._is_held:
            self._is_held = False
            self._main.tell(do, lease=self._number)


class RemoteSessions:
    """The session directory, which is in the main process."""

    def __init__(self, main: Main) -> None:
        self._main = main
        self.is_passed_on = False
        """Whether another platform process has taken the main process's place."""

    def acquire_now(self, key: SessionKey, caller: Caller, *, protocol: str) -> None:
        """Return nothing: the main process has to be asked."""

    async def acquire(
        self, key: SessionKey, caller: Caller, *, protocol: str, is_named: bool = True
    ) -> RemoteLease:
        """Return a lease on a session, as the directory does."""
        try:
            words = await self._main.ask(
                "acquire",
                key=key_words(key),
                caller=caller.to_json(),
                protocol=protocol,
                is_named=is_named,
            )
        except SessionElsewhereError:
            self.is_passed_on = (await self._main.ask("is passed on"))["is"]
            raise
        return RemoteLease(self._main, key_from(words["key"]), words)

    async def lease_moved(self, key: SessionKey) -> RemoteLease:
        """Return a lease that the process held which this platform process replaces."""
        return RemoteLease(self._main, key, await self._main.ask("lease moved", key=key_words(key)))


class RemoteErrors(ErrorsToday):
    """Counts calls that failed where they are told, which is in the main process."""

    def __init__(self, main: Main) -> None:
        super().__init__()
        self._main = main

    def add(self, project: ProjectName, agent: AgentName) -> None:
        self._main.tell("failed", project=project, agent=agent)


class RemoteStore:
    """What a worker needs of the store."""

    def __init__(self, main: Main) -> None:
        self._main = main

    async def add_ticket(self, record: TicketRecord, now: dt.datetime) -> None:
        await self._main.ask("add ticket", record=record_words(record), now=now.isoformat())

    async def take_ticket(self, digest: str) -> TicketRecord | None:
        answer = await self._main.ask("take ticket", digest=digest)
        return _found(TicketRecord, answer)

    async def find_api_key(self, key_id: str) -> ApiKeyRecord | None:
        answer = await self._main.ask("find api key", key_id=key_id)
        return _found(ApiKeyRecord, answer)

    async def find_node(self, node: NodeId) -> NodeRecord | None:
        return _found(NodeRecord, await self._main.ask("find node", node=node))

    async def list_revocations(self) -> Sequence[RevocationRecord]:
        answer = await self._main.ask("list revocations")
        return [record_from(RevocationRecord, words) for words in answer["records"]]

    async def find_renewal(self, key: SessionKey, identity: str) -> dt.datetime | None:
        answer = await self._main.ask("find renewal", key=key_words(key), identity=identity)
        return None if answer["at"] is None else dt.datetime.fromisoformat(answer["at"])

    async def forget_credentials(
        self, *, renewals_before: dt.datetime, revocations_before: dt.datetime
    ) -> None:
        """Do nothing: the main process does that."""

    async def add_audit(self, records: Sequence[AuditRecord]) -> None:
        await self._main.ask("add audit", records=[record_words(record) for record in records])

    async def forget_audit(self, before: dt.datetime) -> None:
        """Do nothing: the main process does that."""


def _found(kind: type[_R], answer: Mapping[str, Any]) -> _R | None:
    return None if answer["record"] is None else record_from(kind, answer["record"])
