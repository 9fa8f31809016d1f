"""How many connections there may be at once: in all, and for each address, identity and session."""

from collections.abc import Hashable, Mapping
from typing import Any

from trunkline.aio.shared_counts import CountedTable, SharedCounts
from trunkline.auth.networks import network_of
from trunkline.gateway.addresses import TrustedProxies
from trunkline.gateway.settings import GatewaySettings
from trunkline.protocol.errors import TooManyConnectionsError, UnavailableError
from trunkline.protocol.ids import SessionKey

#: The tables of what several processes count together.
_ALL, _ADDRESSES, _IDENTITIES, _SESSIONS = range(4)
#: Connections over the limit that are told so; those beyond are dropped without a word.
_TOLD_AT_ONCE = 256


class Place:
    """One connection's share of the limits. Release it when the connection is over."""

    __slots__ = ("_address", "_identity", "_limits", "_session", "peer")

    def __init__(self, limits: "ConnectionLimits", peer: str) -> None:
        self._limits = limits
        #: Who has connected: the client, or a proxy.
        self.peer = peer
        self._address: Hashable = None
        self._identity: Hashable = None
        self._session: Hashable = None

    def take_address(self, address: str) -> None:
        """Count as a connection from an address, or of IPv6 from its /64.

        Raises:
            TooManyConnectionsError: If it has as many as it may.
        """
        if self._address is None:
            counted = network_of(address)
            self._limits.addresses.take(counted)
            self._address = counted

    def take_identity(self, owner: str) -> None:
        """Count as an identity's.

        Raises:
            TooManyConnectionsError: If it has as many as it may.
        """
        if self._identity is None:
            self._limits.identities.take(owner)
            self._identity = owner

    def take_session(self, key: SessionKey) -> None:
        """Count as a session's.

        Raises:
            TooManyConnectionsError: If it has as many as it may.
        """
        # Once, if also the connection to its agent is tried twice.
        if self._session != key:
            if self._session is not None:
                self._limits.sessions.give_back(self._session)
                self._session = None
            self._limits.sessions.take(key)
            self._session = key

    @property
    def counted_as(self) -> dict[str, Any]:
        """What it counts as, as plain data for :meth:`ConnectionLimits.moved_place`."""
        return {
            "peer": self.peer,
            "address": self._address,
            "identity": self._identity,
            "session": self._session is not None,
        }

    def count_as(self, given: Mapping[str, Any], key: SessionKey) -> None:
        """Count as what it counted as in another process, whatever the limits."""
        limits = self._limits
        if given["address"] is not None:
            self._address = given["address"]
            limits.addresses.count(self._address)
        if given["identity"] is not None:
            self._identity = given["identity"]
            limits.identities.count(self._identity)
        if given["session"]:
            self._session = key
            limits.sessions.count(key)

    def release(self) -> None:
        """Give all of it back. Twice is fine."""
        limits = self._limits
        for tally, key in (
            (limits.addresses, self._address),
            (limits.identities, self._identity),
            (limits.sessions, self._session),
        ):
            if key is not None:
                tally.give_back(key)
        self._address = self._identity = self._session = None
        limits.leave(self)


class Tally:
    """How many connections each of those has that one limit is for."""

    def __init__(self, most: int, setting: str, whose: str) -> None:
        self._most = most
        self._setting = setting
        self._whose = whose
        self._counts: dict[Hashable, int] = {}

    def take(self, key: Hashable) -> None:
        """Count one more.

        Raises:
            TooManyConnectionsError: If there are as many as may be.
        """
        number = self._counts.get(key, 0)
        if 0 < self._most <= number:
            raise self._refusal()
        self._counts[key] = number + 1

    def count(self, key: Hashable) -> None:
        """Count one more, also if there are as many as may be."""
        self._counts[key] = self._counts.get(key, 0) + 1

    def give_back(self, key: Hashable) -> None:
        """Count one less."""
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]

    def _refusal(self) -> TooManyConnectionsError:
        return TooManyConnectionsError(
            f"{self._whose} has {self._most} connection{'s' * (self._most != 1)} open, and may "
            "have no more "
            f"({self._setting}); close some, or try again later"
        ).by_limit(self._setting)

    def __len__(self) -> int:
        return len(self._counts)


class SharedTally(Tally):
    """A tally of several processes: what counts is how many there are in all of them."""

    def __init__(self, most: int, setting: str, whose: str, table: CountedTable) -> None:
        super().__init__(most, setting, whose)
        self._table = table

    def take(self, key: Hashable) -> None:
        # Counted first: of two processes that have one place left, not both get it.
        super().count(key)
        if self._table.add(key, 1) > self._most > 0:
            self.give_back(key)
            raise self._refusal()

    def count(self, key: Hashable) -> None:
        super().count(key)
        self._table.add(key, 1)

    def give_back(self, key: Hashable) -> None:
        super().give_back(key)
        self._table.add(key, -1)


class ConnectionLimits:
    """Every connection there is, and who has how many of them."""

    def __init__(self, settings: GatewaySettings, shared: SharedCounts | None = None) -> None:
        """Begin with none.

        Args:
            settings: How many there may be.
            shared: What is counted in, if several processes are to have no more between them.
        """
        self.proxies = TrustedProxies(settings.trusted_proxies)
        #: How many there may be in this process, which may have too few descriptors for all.
        self.most = settings.max_connections
        self._most_of_all = settings.max_connections
        self._all = None if shared is None else shared.counted(_ALL)
        self._number_of_all = 0
        self.places: set[Place] = set()

        def tally(table: int, setting: str, whose: str) -> Tally:
            most: int = getattr(settings, setting)
            if shared is None:
                return Tally(most, setting, whose)
            return SharedTally(most, setting, whose, shared.counted(table))

        self.addresses = tally(_ADDRESSES, "max_connections_per_address", "this address")
        self.identities = tally(_IDENTITIES, "max_connections_per_identity", "this identity")
        self.sessions = tally(_SESSIONS, "max_connections_per_session", "this session")

    def new_place(self, peer: str) -> Place | None:
        """Count a new connection; None if there is no room even for refusing it.

        Args:
            peer: The address it comes from.
        """
        place = self._enter(Place(self, peer))
        if self._exceeded(_TOLD_AT_ONCE) is None:
            return place
        self.leave(place)
        return None

    def _exceeded(self, by: int) -> int | None:
        if 0 < self.most < len(self.places) - by:
            return self.most
        if 0 < self._most_of_all < self._number_of_all - by:
            return self._most_of_all
        return None

    def moved_place(self, given: Mapping[str, Any], key: SessionKey) -> Place:
        """Count a connection that another process has let in, whatever the limits."""
        place = self._enter(Place(self, given["peer"]))
        place.count_as(given, key)
        return place

    def _enter(self, place: Place) -> Place:
        self.places.add(place)
        if self._all is not None:
            self._number_of_all = self._all.add("", 1)
        return place

    def leave(self, place: Place) -> None:
        """Count a connection no more. Twice is fine."""
        if place in self.places:
            self.places.discard(place)
            if self._all is not None:
                self._all.add("", -1)

    def check(self, place: Place) -> None:
        """Refuse a new connection if there are too many.

        Raises:
            UnavailableError: If there are as many as may be.
            TooManyConnectionsError: If its address has as many as it may.
        """
        if (most := self._exceeded(0)) is not None:
            raise UnavailableError(
                f"{most} connections are open, and no more may be (max_connections); "
                "try again later"
            ).by_limit("max_connections")
        if not self.proxies.trusts(place.peer):
            place.take_address(place.peer)
