"""Has the compiled pump relay while nothing special happens, where it was built.

The pump (`_pump.c`) is a thread that reads, follows frame headers and sends, at the price of a
proxy written in C. Every decision stays in `gateway.relay`: what the pump was given comes back at
a close frame, a frame over the limit, an end of stream or an error, and when it is asked for.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from trunkline.gateway.settings import GatewaySettings

try:
    from trunkline.gateway import _pump
    from trunkline.gateway._pump import Pump
except ImportError:  # not built: no compiler, or not Linux
    _pump = None  # type: ignore[assignment]
    Pump = None  # type: ignore[assignment, misc]

_log = logging.getLogger("trunkline.gateway")
_READ_BYTES = 64 * 1024

#: Of `_pump.c`, which has the same number: raised whenever what is called here changes.
_INTERFACE = 1
#: The number of what was built; the first ones had none.
_BUILT_INTERFACE = getattr(_pump, "INTERFACE", 0)
#: Whether what was built belongs to another version of this module.
IS_OUTDATED = Pump is not None and _BUILT_INTERFACE != _INTERFACE
#: Whether this installation has the pump.
IS_BUILT = Pump is not None and not IS_OUTDATED
OUTDATED = (
    f"the compiled relay is of another version (interface {_BUILT_INTERFACE}, not {_INTERFACE}), "
    "so the event loop relays: build it again, with `make setup` in a checkout or by "
    "installing trunkline again"
)


class Given(NamedTuple):
    """One direction as the pump gets it: where it is read from, and what was read so far."""

    fd: int
    left: int
    frames: int
    bytes_read: int


class Taken(NamedTuple):
    """One direction as the pump gives it back.

    Attributes:
        frames: Frame headers so far, those before the pump included; ``bytes_read`` likewise.
        left: Bytes that the frame under way still has.
        rest: Bytes that were read and neither followed nor counted.
        unsent: Bytes that were followed and that the other socket has yet to get.
        controls: How many of the frames since it was given were control frames.
    """

    frames: int
    bytes_read: int
    left: int
    rest: bytes
    unsent: bytes
    controls: int = 0


class Counters(NamedTuple):
    """One direction while it is carried; ``waiting_bytes`` wait for the other socket.

    Of its frames, ``controls`` are control frames that came since it is carried.
    """

    frames: int
    bytes_read: int
    waiting_bytes: int
    controls: int = 0


class Carried:
    """Two sockets that the pump carries between. They stay open until they are taken back."""

    __slots__ = ("_carrier", "_number", "_pump")

    def __init__(self, carrier: "Carrier", pump: "Pump", number: int) -> None:
        self._carrier = carrier
        self._pump = pump
        self._number = number

    def counters(self) -> tuple[Counters, Counters]:
        one, other = self._pump.counters(self._number)
        return Counters(*one), Counters(*other)

    def take_back(self) -> tuple[Taken, Taken]:
        """Return both directions as they are. From here on the pump touches neither."""
        one, other = self._pump.remove(self._number)
        self._carrier.forget(self._number)
        return Taken(*one), Taken(*other)


class Carrier:
    """The pump of one event loop. It starts with the first connection it is given."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump: Pump | None = None
        self._is_closed = False
        self._owners: dict[int, Callable[[], None]] = {}
        if IS_OUTDATED and settings.compiled_relay:
            _log.warning(OUTDATED)

    @property
    def is_available(self) -> bool:
        return IS_BUILT and self._settings.compiled_relay and not self._is_closed

    def carry(self, one: Given, other: Given, on_out: Callable[[], None]) -> Carried | None:
        """Start carrying between two connected sockets.

        Args:
            one: A direction. Nobody else may read from its socket or write to it.
            other: The other direction.
            on_out: Called when it isn't carried any more, to take it back.

        Returns:
            None if it can't be had: then nothing has changed.
        """
        if not self.is_available:
            return None
        try:
            pump = self._pump or self._open()
            number = pump.add(one, other)
        except OSError as error:
            _log.warning("a connection is relayed without the compiled pump: %s", error)
            return None
        self._owners[number] = on_out
        return Carried(self, pump, number)

    def _open(self) -> "Pump":
        settings = self._settings
        pump = Pump(
            max_frame_bytes=settings.max_frame_bytes,
            read_bytes=min(_READ_BYTES, settings.write_buffer_bytes),
            realtime_share=settings.relay_realtime_share,
        )
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pump.fileno(), self._tell)
        self._pump = pump
        return pump

    def _tell(self) -> None:
        assert self._pump is not None
        for number in self._pump.take_out():
            # The one before may have ended it.
            if (on_out := self._owners.get(number)) is not None:
                self._give_back(on_out)

    def _give_back(self, on_out: Callable[[], None]) -> None:
        try:
            on_out()
        except Exception:  # noqa: BLE001 - one that fails must not keep the others from it
            # They are told once: nobody would read from their sockets again.
            _log.exception("taking a connection back from the compiled pump failed")

    def forget(self, number: int) -> None:
        """Note that somebody took back what was his."""
        del self._owners[number]

    def close(self) -> None:
        """Have everybody take back what is theirs, and end the thread. Twice is fine."""
        self._is_closed = True
        for on_out in list(self._owners.values()):
            self._give_back(on_out)
        if self._pump is not None and self._loop is not None:
            self._loop.remove_reader(self._pump.fileno())
            self._pump.close()
            self._pump = None
