"""Whether an upgrade may go to a session, and to which: each check of it, once and in order.

Nothing here waits. Most upgrades are decided in the call that brings them. Where somebody has to be
asked first who it is that comes, such as the store about a ticket or a provider about its keys,
:meth:`Vetting.look` says so and returns what asks; whoever has waited for that goes on with
:meth:`Vetting.let_in`, as everybody else does.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from trunkline.auth.admission import speaking_for
from trunkline.auth.caller import Caller, acting_for
from trunkline.auth.grants import Permission
from trunkline.auth.verify import Later
from trunkline.gateway import carriage, routes, upstream
from trunkline.gateway.handshake import check_handshake
from trunkline.gateway.limits import Place
from trunkline.gateway.passes import Admitted, SeenHead
from trunkline.gateway.requests import UpgradeRequest
from trunkline.gateway.services import GatewayServices
from trunkline.protocol import headers
from trunkline.protocol.errors import AuthenticationError, InvalidRequestError, NotFoundError
from trunkline.protocol.ids import SessionKey
from trunkline.sessions.directory import new_session_id

_FEATURES = headers.FOUNDRY_FEATURES.encode()
#: Until it is known what the upgrade brings.
_NOTHING: Final = carriage.Carried()


class Shown(NamedTuple):
    """Who has come.

    Attributes:
        caller: Who it is.
        bound_to: The one session it may go to, if it brought a ticket.
    """

    caller: Caller
    bound_to: SessionKey | None


#: Tells who has come where something has to be waited for.
ShownLater = Callable[[], Awaitable[Shown]]


class Vetting:
    """The checks of one upgrade, and what it has turned out to be about so far."""

    __slots__ = ("_address", "_place", "_services", "caller", "carried", "request", "session")

    def __init__(
        self, request: UpgradeRequest, services: GatewayServices, place: Place, address: str
    ) -> None:
        """Begin with nothing known.

        Args:
            request: What is asked for.
            services: What it is checked with.
            place: What the connection counts as.
            address: Where it comes from.
        """
        self.request = request
        self.carried = _NOTHING
        #: Who has come, and for which session, once either is known.
        self.caller: Caller | None = None
        self.session: SessionKey | None = None
        self._services = services
        self._place = place
        self._address = address

    def look(self) -> Shown | ShownLater:
        """Check what needs nobody's name; return who has come, or what tells it.

        Raises:
            TrunklineError: If it may go nowhere.
        """
        if not routes.is_websocket_path(self.request.path):
            raise NotFoundError("no WebSocket endpoint is at this path")
        self._check_address()
        origin = self.request.header(b"origin")
        if origin is not None:
            self._services.origins.check(origin, self.request.header(b"host"))
        self.request, self.carried = carriage.take_out(self.request)
        if self.carried.ticket is not None:
            if acting_for(self._header) is not None:
                raise InvalidRequestError("whoever made the ticket has said whom it is for")
            return functools.partial(self._redeem, self.carried.ticket)
        told = self._services.admission.look(self.carried.authorization)
        if isinstance(told, Caller):
            return self._shown(told)
        return functools.partial(self._wait, told)

    def let_in(self, shown: Shown, seen: SeenHead | None = None) -> Admitted:
        """Check the rest; return what the upgrade may go to.

        Args:
            shown: Who has come.
            seen: How the next head like this one will be found.

        Raises:
            TrunklineError: If it may go nowhere.
        """
        request, services = self.request, self._services
        caller, bound_to = shown
        self.caller = caller
        check_handshake(request)
        self._place.take_address(self._address)
        target = routes.match_websocket(
            request.path, request.query, request.header(_FEATURES), services.projects
        )
        if bound_to is not None:
            _check_ticket(target, bound_to)
            session_id = bound_to.session_id
        else:
            session_id = target.session_id or new_session_id()
        self.session = key = SessionKey(target.project, target.agent, session_id)
        caller.require(Permission.USE, key.project, key.agent)
        admitted = Admitted(
            caller,
            key,
            bound_to is not None or target.session_id is not None,
            upstream.head_start(target.query, request.fields.forwarded),
            f"{headers.USER_ID}: {services.pseudonyms.of(caller.user)}\r\n",
        )
        self._take_identity(caller)
        # A session that wasn't named is another one each time.
        if seen is not None and self.carried.ticket is None and target.session_id is not None:
            services.passes.keep(seen, request, admitted, services.admission)
        return admitted

    def let_in_again(self, admitted: Admitted) -> None:
        """Check of an upgrade like one before it what doesn't come out the same each time.

        Raises:
            TrunklineError: If it may go nowhere.
        """
        self._check_address()
        self.caller = admitted.caller
        self._place.take_address(self._address)
        self.session = admitted.key
        self._take_identity(admitted.caller)

    def _check_address(self) -> None:
        services = self._services
        services.refuse_if_draining()
        services.rates.failures_by_address.check(self._address)
        services.rates.upgrades_by_address.take(self._address)

    def _take_identity(self, caller: Caller) -> None:
        owner = caller.user.owner
        self._services.rates.upgrades_by_identity.take(owner)
        self._place.take_identity(owner)

    def _shown(self, caller: Caller) -> Shown:
        # Few name somebody, and which fields do so is known of those that came before.
        if self.request.fields.names_user:
            caller = speaking_for(caller, self._header)
        return Shown(caller, None)

    async def _wait(self, told: Later) -> Shown:
        return self._shown(await told())

    async def _redeem(self, ticket: str) -> Shown:
        services = self._services
        shown = Shown(*await services.tickets.redeem(ticket, self._header("origin")))
        services.admission.revocations.check(shown.caller)
        return shown

    def _header(self, name: str) -> str | None:
        return self.request.header(name.encode())


def _check_ticket(target: routes.Target, key: SessionKey) -> None:
    if (target.project, target.agent) != (key.project, key.agent):
        raise AuthenticationError("the ticket is for another agent")
    if target.session_id not in (None, key.session_id):
        raise AuthenticationError("the ticket is for another session")
