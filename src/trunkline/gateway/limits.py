"""How many connections there may be at once: in all, and for each address, identity and session."""

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

from trunkline.gateway.addresses import TrustedProxies
from trunkline.gateway.settings import GatewaySettings
from trunkline.protocol.errors import TooManyConnectionsError, UnavailableError
from trunkline.protocol.ids import SessionKey

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
        """Count as a connection from an address.

        Raises:
            TooManyConnectionsError: If it has as many as it may.
        """
        if self._address is None:
            self._limits.addresses.take(address)
            self._address = address

    def take_identity(self, owner: str) -> None:
        """Count as an identity's.

        Raises:
            TooManyConnectionsError: If it has as many as it may.
        """
        self._limits.identities.take(owner)
        self._identity = owner

    def take_session(self, key: SessionKey) -> None:
        """Count as a session's.

        Raises:
            TooManyConnectionsError: If it has as many as it may.
        """
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
        limits.places.discard(self)


class Tally:
    """How many connections each of those has that one limit is for."""

    def __init__(self, most: int, setting: str, whose: str) -> None:
        self._most = most
        self._setting = setting
        self._whose = whose
        self._counts: Counter[Hashable] = Counter()

    def take(self, key: Hashable) -> None:
        """Count one more.

        Raises:
            TooManyConnectionsError: If there are as many as may be.
        """
        if self._most and self._counts[key] >= self._most:
            raise TooManyConnectionsError(
                f"{self._whose} has {self._most} connections open, and may have no more "
                f"({self._setting}); close some, or try again later"
            ).by_limit(self._setting)
        self.count(key)

    def count(self, key: Hashable) -> None:
        """Count one more, also if there are as many as may be."""
        self._counts[key] += 1

    def give_back(self, key: Hashable) -> None:
        """Count one less."""
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]

    def __len__(self) -> int:
        return len(self._counts)


class ConnectionLimits:
    """Every connection there is, and who has how many of them."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.proxies = TrustedProxies(settings.trusted_proxies)
        self.most = settings.max_connections
        self.places: set[Place] = set()
        self.addresses = Tally(
            settings.max_connections_per_address, "max_connections_per_address", "this address"
        )
        self.identities = Tally(
            settings.max_connections_per_identity, "max_connections_per_identity", "this identity"
        )
        self.sessions = Tally(
            settings.max_connections_per_session, "max_connections_per_session", "this session"
        )

    def new_place(self, peer: str) -> Place | None:
        """Count a new connection; None if there is no room even for refusing it.

        Args:
            peer: The address it comes from.
        """
        if self.most and len(self.places) >= self.most + _TOLD_AT_ONCE:
            return None
        place = Place(self, peer)
        self.places.add(place)
        return place

    def moved_place(self, given: Mapping[str, Any], key: SessionKey) -> Place:
        """Count a connection that another process has let in, whatever the limits."""
        place = Place(self, given["peer"])
        self.places.add(place)
        place.count_as(given, key)
        return place

    def check(self, place: Place) -> None:
        """Refuse a new connection if there are too many.

        Raises:
            UnavailableError: If there are as many as may be.
            TooManyConnectionsError: If its address has as many as it may.
        """
        if self.most and len(self.places) > self.most:
            raise UnavailableError(
                f"{self.most} connections are open, and no more may be (max_connections); "
                "try again later"
            ).by_limit("max_connections")
        if not self.proxies.trusts(place.peer):
            place.take_address(place.peer)
