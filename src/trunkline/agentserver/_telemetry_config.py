"""Which telemetry the standard ``OTEL_*`` variables ask for, and what is wrong with them.

Nothing here loads OpenTelemetry. What a variable means is said by OpenTelemetry's specification
("Environment Variable Specification" and "OpenTelemetry Protocol Exporter"); a wrong value never
keeps an agent from starting, so it becomes a line for the log and is treated as if it were unset.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

OTLP: Final = "otlp"
CONSOLE: Final = "console"

_DEFAULT_ENDPOINT: Final = "http://localhost:4318"
_PROTOCOL: Final = "http/protobuf"
_COMPRESSIONS: Final = ("none", "gzip", "deflate")
_RATIO_SAMPLERS: Final = ("traceidratio", "parentbased_traceidratio")
_SAMPLERS: Final = (
    "always_on",
    "always_off",
    "parentbased_always_on",
    "parentbased_always_off",
    *_RATIO_SAMPLERS,
)
#: What OpenTelemetry takes for a header; about others it complains, and shows them.
_HEADER = re.compile(r"\s*[!#-'*+\-.0-9A-Z^-z|~]+\s*=[ !#-+\--:<-\[\]-~]*")
_PAIR = re.compile(r"[^=]+=.*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """Where one signal is sent by OTLP over HTTP, and how."""

    url: str
    """The whole URL, with the signal's path."""

    timeout_s: float
    """Seconds for one batch, retries included."""

    compression: str
    """``none``, ``gzip`` or ``deflate``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What is to happen to the traces, or to the metrics."""

    collector: Collector | None = None
    """Where they are sent, or None."""

    to_console: bool = False
    """Whether they are printed on stdout."""

    @property
    def is_on(self) -> bool:
        """Whether they go anywhere."""
        return self.collector is not None or self.to_console


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryConfig:
    """What the variables say, checked."""

    is_disabled: bool = False
    """Whether ``OTEL_SDK_DISABLED`` turns everything off."""

    traces: Signal = Signal()
    """What happens to spans."""

    metrics: Signal = Signal()
    """What happens to metrics."""

    is_sampler_usable: bool = True
    """Whether OpenTelemetry may read ``OTEL_TRACES_SAMPLER`` and its argument."""

    span_queue_size: int = 2048
    """How many spans may wait to be sent; what is more is dropped."""

    span_batch_size: int = 512
    """How many spans are sent at once."""

    span_delay_ms: float = 5000
    """Milliseconds between two batches."""

    metric_interval_ms: float = 60_000
    """Milliseconds between two collections of metrics."""

    metric_timeout_ms: float = 30_000
    """Milliseconds one collection may take."""

    problems: tuple[str, ...] = ()
    """What was wrong, a sentence each. None holds the value of a header or URL."""

    @property
    def is_on(self) -> bool:
        """Whether anything is to be sent or printed."""
        return self.traces.is_on or self.metrics.is_on


def read(values: Mapping[str, str]) -> TelemetryConfig:
    """Read the ``OTEL_*`` variables among ``values``. Wrong ones become problems."""
    variables = _Variables(values)
    if variables.text("OTEL_SDK_DISABLED").lower() == "true":
        return TelemetryConfig(is_disabled=True)
    traces = _signal(variables, "TRACES")
    metrics = _signal(variables, "METRICS")
    if not traces.is_on and not metrics.is_on:
        return TelemetryConfig(problems=variables.problems)
    queue = int(variables.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048, is_whole=True))
    variables.has_pairs(_PAIR, "OTEL_RESOURCE_ATTRIBUTES")
    return TelemetryConfig(
        traces=traces,
        metrics=metrics,
        is_sampler_usable=_has_usable_sampler(variables),
        span_queue_size=queue,
        span_batch_size=min(
            queue, int(variables.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, is_whole=True))
        ),
        span_delay_ms=variables.number("OTEL_BSP_SCHEDULE_DELAY", 5000),
        metric_interval_ms=variables.number("OTEL_METRIC_EXPORT_INTERVAL", 60_000),
        metric_timeout_ms=variables.number("OTEL_METRIC_EXPORT_TIMEOUT", 30_000),
        problems=variables.problems,
    )


class _Variables:
    """The variables, and what was found wrong so far. An empty one counts as unset."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._problems: dict[str, None] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """What was wrong. A variable that both signals read is wrong once."""
        return tuple(self._problems)

    def complain(self, problem: str) -> None:
        self._problems[problem] = None

    def text(self, name: str) -> str:
        return self._values.get(name, "").strip()

    def first(self, *names: str) -> tuple[str, str]:
        """Return the first variable that is set, and its name; empty if none is."""
        return next(((self.text(n), n) for n in names if self.text(n)), ("", ""))

    def number(self, name: str, default: float, *, is_whole: bool = False) -> float:
        return self.number_in((self.text(name), name), default, is_whole=is_whole)

    def number_in(self, found: tuple[str, str], default: float, *, is_whole: bool = False) -> float:
        text, name = found
        if not text:
            return default
        kind = "a positive integer" if is_whole else "a positive number"
        try:
            value = int(text) if is_whole else float(text)
        except ValueError:
            value = 0
        if not math.isfinite(value) or value <= 0:
            self.complain(f"{name} must be {kind}, not {text!r}; {default:g} is used")
            return default
        return value

    def choice(self, found: tuple[str, str], choices: tuple[str, ...]) -> str:
        """Return one of ``choices``; the first of them if another value is set, or none."""
        text, name = found
        if text and text.lower() not in choices:
            self.complain(
                f"{name} must be one of {', '.join(choices)}, not {text!r}; {choices[0]} is used"
            )
            return choices[0]
        return text.lower() or choices[0]

    def has_pairs(self, pair: re.Pattern[str], *names: str) -> bool:
        """Tell whether a list of ``name=value`` is one; it may hold secrets, so none is shown."""
        text, name = self.first(*names)
        if all(pair.fullmatch(part.strip()) for part in text.split(",") if part.strip()):
            return True
        self.complain(f"{name} must be name=value pairs with commas between them")
        return False


def _signal(variables: _Variables, kind: str) -> Signal:
    """Read what is to happen to one kind of signal: an endpoint alone asks for OTLP."""
    own_endpoint = f"OTEL_EXPORTER_OTLP_{kind}_ENDPOINT"
    has_endpoint = bool(variables.first(own_endpoint, "OTEL_EXPORTER_OTLP_ENDPOINT")[0])
    name = f"OTEL_{kind}_EXPORTER"
    wanted = [part.strip().lower() for part in variables.text(name).split(",") if part.strip()]
    if not wanted:
        wanted = [OTLP] if has_endpoint else []
    for other in wanted:
        if other not in (OTLP, CONSOLE, "none"):
            variables.complain(
                f"{name}: {other!r} is not known here; otlp, console or none is needed"
            )
    return Signal(
        collector=_collector(variables, kind) if OTLP in wanted else None,
        to_console=CONSOLE in wanted,
    )


def _collector(variables: _Variables, kind: str) -> Collector | None:
    prefix = f"OTEL_EXPORTER_OTLP_{kind}"
    protocol, protocol_name = variables.first(f"{prefix}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol and protocol != _PROTOCOL:
        variables.complain(
            f"{protocol_name}: {protocol!r} can't be spoken here, only {_PROTOCOL}, which "
            f"collectors listen for on port 4318; no {kind.lower()} are sent"
        )
        return None
    url = _endpoint(variables, kind)
    headers = f"{prefix}_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"
    if not url or not variables.has_pairs(_HEADER, *headers):
        return None
    return Collector(
        url=url,
        timeout_s=variables.number_in(
            variables.first(f"{prefix}_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"), 10
        ),
        compression=variables.choice(
            variables.first(f"{prefix}_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"),
            _COMPRESSIONS,
        ),
    )


def _endpoint(variables: _Variables, kind: str) -> str:
    """Return the URL for one kind of signal; the general endpoint gets the signal's path."""
    own, name = variables.first(f"OTEL_EXPORTER_OTLP_{kind}_ENDPOINT")
    if not own:
        base, name = variables.first("OTEL_EXPORTER_OTLP_ENDPOINT")
        own = f"{(base or _DEFAULT_ENDPOINT).removesuffix('/')}/v1/{kind.lower()}"
    try:
        parts = urlsplit(own)
        is_fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_fine = False
    if is_fine:
        return own
    variables.complain(f"{name} must be a URL as http://collector:4318; no {kind.lower()} are sent")
    return ""


def _has_usable_sampler(variables: _Variables) -> bool:
    sampler = variables.text("OTEL_TRACES_SAMPLER").lower()
    if sampler and sampler not in _SAMPLERS:
        variables.complain(
            f"OTEL_TRACES_SAMPLER must be one of {', '.join(_SAMPLERS)}, not {sampler!r}; "
            "parentbased_always_on is used"
        )
        return False
    ratio = variables.text("OTEL_TRACES_SAMPLER_ARG")
    if sampler not in _RATIO_SAMPLERS or not ratio:
        return True
    try:
        is_fine = 0 <= float(ratio) <= 1
    except ValueError:
        is_fine = False
    if not is_fine:
        variables.complain(
            f"OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, not {ratio!r}; "
            "parentbased_always_on is used"
        )
    return is_fine
