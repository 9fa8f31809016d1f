"""Spans and metrics of the host: whether there are any, and where the host reports from.

OpenTelemetry is loaded when there is something to report, and only then; all that touches it is
in ``_otel``. A host that isn't to report costs an attribute and a call per connection.
"""

import asyncio
import contextlib
import importlib
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from starlette.types import Scope

from trunkline.agentserver._config import AgentConfig
from trunkline.agentserver._context import Identity
from trunkline.agentserver._ending import Ending
from trunkline.agentserver._logging import LOGGER_NAME

if TYPE_CHECKING:
    from trunkline.agentserver._telemetry_config import TelemetryConfig

logger = logging.getLogger(LOGGER_NAME)

#: Short enough for whoever stopped the host not to notice that it had no time left.
_MIN_FLUSH_S: Final = 1.0
#: A collector that works takes milliseconds.
_MAX_FLUSH_S: Final = 5.0
_RECORDER: Final = "trunkline.agentserver._otel.recorder"
_CONFIG: Final = "trunkline.agentserver._telemetry_config"


class Observed(ABC):
    """One request or WebSocket being served: its span is current inside."""

    __slots__ = ()

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    @abstractmethod
    def answered(self, status: int) -> None:
        """Note the status of an HTTP answer."""

    @abstractmethod
    def failed(self, cause: BaseException | str) -> None:
        """Note what went wrong: an exception, of which the class is reported, or a word."""


class Recorder(Protocol):
    """What makes spans and metrics. It exists only where OpenTelemetry does."""

    def request(self, kind: str, scope: Scope, identity: Identity) -> Observed: ...
    def connection(self, scope: Scope, identity: Identity, ending: Ending) -> Observed: ...
    def flushes(self) -> Sequence[Callable[[], object]]: ...


class _Unobserved(Observed):
    """Stands where nothing is reported."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def answered(self, status: int) -> None:
        """Drop it."""

    def failed(self, cause: BaseException | str) -> None:
        """Drop it."""


_UNOBSERVED: Final = _Unobserved()


class Telemetry:
    """What a host reports.

    It starts late, when the host does, so that the agent's own code has had its chance to set
    up OpenTelemetry: what is set up already is used and never replaced.
    """

    def __init__(self, wish: bool | None, variables: Mapping[str, str], agent: AgentConfig) -> None:
        """Read the variables.

        Args:
            wish: None reports if ``variables`` ask for it; True also through whatever the
                agent's own code has set up; False never.
            variables: The environment, of which ``OTEL_*`` counts.
            agent: Who the agent is.
        """
        self._config: TelemetryConfig | None = None
        if wish or (wish is None and variables):
            self._config = _read(variables)
        self._is_wished = wish is True
        self._agent = agent
        self._recorder: Recorder | None = None
        self._is_started = self._config is None

    def start(self, *, is_flushed_at_end: bool) -> None:
        """Set up what is asked for; the second time does nothing. Never fails.

        Args:
            is_flushed_at_end: Whether :meth:`flush` will be called. If not, what waits to be
                sent is sent while the interpreter exits.
        """
        config = self._config
        if self._is_started or config is None:
            return
        self._is_started = True
        for problem in config.problems:
            logger.warning("telemetry: %s", problem)
        is_wanted = self._is_wished and not config.is_disabled
        if not (is_wanted or config.is_on):
            return
        try:
            module: Any = importlib.import_module(_RECORDER)
            self._recorder = module.OtelRecorder(
                config,
                self._agent,
                is_wished=is_wanted,
                shuts_down_at_exit=not is_flushed_at_end,
            )
        except ImportError as error:
            logger.warning(
                "telemetry is asked for and can't be had: install trunkline[otel] (%s)", error
            )
        except Exception as error:  # noqa: BLE001 - an agent without telemetry beats none at all
            # Without the traceback: what went wrong is a setting, and the text names it.
            logger.warning(
                "telemetry could not be set up, going on without (%s: %s)",
                type(error).__name__,
                error,
            )

    def request(self, kind: str, scope: Scope, identity: Identity) -> Observed:
        """Observe one HTTP request: an ``invoke``, ``get`` or ``cancel``."""
        recorder = self._working_recorder()
        return _UNOBSERVED if recorder is None else recorder.request(kind, scope, identity)

    def connection(self, scope: Scope, identity: Identity, ending: Ending) -> Observed:
        """Observe one WebSocket, from before it is accepted until it has ended."""
        recorder = self._working_recorder()
        return _UNOBSERVED if recorder is None else recorder.connection(scope, identity, ending)

    async def flush(self, left_s: float) -> None:
        """Send what waits to be sent. Never fails.

        Args:
            left_s: How long that may take, if it is between a second and five.
        """
        if self._recorder is None:
            return
        seconds = min(max(left_s, _MIN_FLUSH_S), _MAX_FLUSH_S)
        loop = asyncio.get_running_loop()
        waiting = [_done_in_thread(loop, flush) for flush in self._recorder.flushes()]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=seconds)
            if late:
                logger.warning("telemetry: what was left could not be sent within %.3g s", seconds)

    def _working_recorder(self) -> Recorder | None:
        if not self._is_started:
            # Served without a lifespan, as part of another application for one.
            self.start(is_flushed_at_end=False)
        return self._recorder


def _read(variables: Mapping[str, str]) -> "TelemetryConfig":
    # Loaded only for an agent in whose environment there is something to read.
    module: Any = importlib.import_module(_CONFIG)
    config: TelemetryConfig = module.read(variables)
    return config


def _done_in_thread(
    loop: asyncio.AbstractEventLoop, work: Callable[[], object]
) -> asyncio.Future[None]:
    # Not asyncio's own threads: at its end the loop would wait for them, however long they take.
    future: asyncio.Future[None] = loop.create_future()

    def finish() -> None:
        if not future.done():
            future.set_result(None)

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not reach the agent
            logger.warning("telemetry: what was left could not be sent: %s", error)
        # Too late, the loop has ended.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(finish)

    threading.Thread(target=run, name="telemetry-flush", daemon=True).start()
    return future
