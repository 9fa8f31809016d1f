"""The ``websocket.*`` metrics.

Nothing is done per message: each WebSocket counts for itself anyway, and whoever collects sums
up. So what a long conversation has moved is seen while it lasts, and not only at its end.
"""

import functools
import threading
import time
from collections.abc import Iterable
from typing import Final
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.util.types import Attributes

from trunkline.agentserver._ending import ClosedBy, Ending

#: Counters by name: what of an :class:`Ending` they show, their unit, and what they are.
_COUNTERS: Final = (
    ("websocket.frames.sent", "sent_messages", "{frame}", "Messages sent"),
    ("websocket.frames.received", "received_messages", "{frame}", "Messages received"),
    ("websocket.bytes_sent", "sent_bytes", "By", "Payload of the messages sent"),
    ("websocket.bytes_received", "received_bytes", "By", "Payload of the messages received"),
)
#: From a tenth of a second to eight hours.
_DURATIONS_MS: Final = (
    100, 1_000, 5_000, 15_000, 60_000, 300_000, 900_000, 1_800_000, 3_600_000, 7_200_000,
    28_800_000,
)  # fmt: skip
#: Close codes from here on are for libraries and applications (RFC 6455 section 7.4.2).
_FIRST_PRIVATE_CODE: Final = 3000


class Connections:
    """The WebSockets of one agent: those that are open, and what all the others have moved.

    Opened and closed on the event loop, counted on the thread that collects.
    """

    def __init__(self, instruments: "Instruments", agent_name: str) -> None:
        self._instruments = instruments
        self.attributes = {"gen_ai.agent.name": agent_name} if agent_name else {}
        self._lock = threading.Lock()
        self._open: dict[int, Ending] = {}
        self._before = dict.fromkeys((field for _, field, _, _ in _COUNTERS), 0)

    def opened(self, ending: Ending) -> float:
        """Count a WebSocket from here on; return what :meth:`closed` wants to know."""
        with self._lock:
            self._open[id(ending)] = ending
        return time.monotonic()

    def closed(self, ending: Ending, opened_at: float) -> None:
        """Measure a WebSocket that has ended."""
        with self._lock:
            del self._open[id(ending)]
            for field in self._before:
                self._before[field] += getattr(ending, field)
        self._instruments.record(
            (time.monotonic() - opened_at) * 1000,
            {
                **self.attributes,
                "websocket.close_code": _class_of(ending),
                "websocket.closed_by": ending.closed_by,
            },
        )

    def active(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def total(self, field: str) -> int:
        """Return how much all of them have moved, those that are open included."""
        # One that is closed meanwhile must be counted once: a sum that falls looks like a
        # process that has started anew.
        with self._lock:
            now: int = sum(getattr(ending, field) for ending in self._open.values())
            return self._before[field] + now


class Instruments:
    """The instruments of one meter provider. It takes each only once, however many hosts."""

    def __init__(self, meter: Meter) -> None:
        self._by_agent: dict[str, Connections] = {}
        self._durations = meter.create_histogram(
            "websocket.connection.duration_ms",
            unit="ms",
            description="How long WebSockets lasted",
            explicit_bucket_boundaries_advisory=_DURATIONS_MS,
        )
        self._close_codes = meter.create_counter(
            "websocket.connection.close_code",
            unit="{connection}",
            description="WebSockets that ended, by close code",
        )
        meter.create_observable_up_down_counter(
            "websocket.active_connections",
            [self._active],
            unit="{connection}",
            description="WebSockets that are open",
        )
        for name, field, unit, description in _COUNTERS:
            meter.create_observable_counter(
                name, [functools.partial(self._totals, field)], unit=unit, description=description
            )

    def connections(self, agent_name: str) -> Connections:
        """Return where an agent's WebSockets are counted."""
        if agent_name not in self._by_agent:
            self._by_agent[agent_name] = Connections(self, agent_name)
        return self._by_agent[agent_name]

    def record(self, duration_ms: float, attributes: Attributes) -> None:
        """Record the end of one WebSocket."""
        self._durations.record(duration_ms, attributes)
        self._close_codes.add(1, attributes)

    def _active(self, _options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(c.active(), c.attributes) for c in self._all()]

    def _totals(self, field: str, _options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(c.total(field), c.attributes) for c in self._all()]

    def _all(self) -> list[Connections]:
        return list(self._by_agent.values())


#: For the whole process, as providers are: of a second instrument with the same name the SDK
#: would drop the callbacks.
_instruments: WeakKeyDictionary[MeterProvider, Instruments] = WeakKeyDictionary()


def connections_of(
    provider: MeterProvider, scope: str, version: str, agent_name: str
) -> Connections:
    """Return where the WebSockets of an agent are counted for a meter provider."""
    instruments = _instruments.get(provider)
    if instruments is None:
        instruments = _instruments[provider] = Instruments(provider.get_meter(scope, version))
    return instruments.connections(agent_name)


def _class_of(ending: Ending) -> str:
    """Return the close code, or its class where the client may choose among thousands."""
    if ending.code >= _FIRST_PRIVATE_CODE and ending.closed_by == ClosedBy.CLIENT:
        return f"{ending.code // 1000}xxx"
    return str(int(ending.code))
