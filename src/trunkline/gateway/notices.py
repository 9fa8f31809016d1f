"""Tells the operator that a limit refuses: a line in the log, and not one for each refusal.

Who is refused is told why, and the metric counts it. Neither helps who reads the log of a platform
that turns everybody away; and a line for each would let strangers fill the disk.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from trunkline.auth.rates import RateSettings
from trunkline.config import settable, variable_of
from trunkline.gateway.settings import GatewaySettings
from trunkline.protocol.errors import TrunklineError

_log = logging.getLogger("trunkline.gateway")

#: How long a limit isn't spoken of again.
_SILENCE_S: Final = 60.0
#: What any stranger's client runs into by itself, and nobody has to do anything about.
_OF_HEADS: Final = frozenset(
    {"max_head_bytes", "max_headers", "head_timeout_s", "max_pipelined_requests"}
)
_VARIABLES: Final = {
    name: variable_of(component, name)
    for component, settings in (("rates", RateSettings), ("gateway", GatewaySettings))
    for name in settable(settings)
}


class LimitNotices:
    """Says that a limit refuses, at most once a minute for each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_at: dict[str, float] = {}

    def refused(self, error: TrunklineError) -> None:
        """Say so, unless it was said lately."""
        variable = _VARIABLES.get(error.limit)
        now = self._clock()
        if variable is None or now - self._told_at.get(error.limit, -_SILENCE_S) < _SILENCE_S:
            return
        self._told_at[error.limit] = now
        _log.log(
            logging.INFO if error.limit in _OF_HEADS else logging.WARNING,
            "refused with %d by %s: %s (trunkline_limit_refusals_total counts them; for %g s the "
            "log says no more of it)",
            error.status,
            variable,
            error,
            _SILENCE_S,
        )
