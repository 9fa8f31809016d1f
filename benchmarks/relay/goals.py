"""What the relay is to cost at most, and whether a run found it so."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.relay.measure import Plan, Samples
from benchmarks.relay.proxies import STRANGERS
from benchmarks.support.report import quartiles

_OURS = "trunkline"
#: CPU per round trip with several connections, as a share of the other's.
_CPU_AT_MOST = {"nginx": 1.1, "HAProxy": 1.0}
_IDLE_KIB_AT_MOST = 6.0
#: Connections set up a second, with a token verified for each, as a share of nginx's without.
_SET_UPS_AT_LEAST = 0.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal, and what a run says about it."""

    what: str
    is_met: bool
    is_sure: bool
    """Whether half of the rounds lie on one side of the goal."""
    found: str

    def __str__(self) -> str:
        word = "met" if self.is_met else "missed"
        doubt = "" if self.is_sure else "; unsure, the rounds differ"
        return f"{word:7} {self.what}: {self.found}{doubt}"


def verdicts(plan: Plan, samples: Samples) -> Iterator[Verdict]:
    """Compare what was measured with the goals for it."""
    if "frames" in plan.parts:
        for size in plan.frame_sizes:
            for other, most in _CPU_AT_MOST.items():
                ratios = samples.ratios(samples.cpu_us, _OURS, other, size)
                what = f"CPU per round trip, {size} bytes, {plan.connections} connections"
                yield _verdict(f"{what}, of {other}'s", ratios, most, float.__le__)
    if "set-ups" in plan.parts:
        for name in (_OURS, *STRANGERS):
            ratios = samples.ratios(samples.set_ups_per_s, name, "nginx", 0)
            what = f"connections set up a second, {name}, of nginx's"
            yield _verdict(what, ratios, _SET_UPS_AT_LEAST, float.__ge__)
    if "memory" in plan.parts:
        found = [samples.idle_kib[_OURS]]
        yield _verdict("KiB per idle connection", found, _IDLE_KIB_AT_MOST, float.__le__)


def _verdict(
    what: str, found: Sequence[float], goal: float, holds: Callable[[float, float], bool]
) -> Verdict:
    low, middle, high = quartiles(found)
    bound = "at most" if holds is float.__le__ else "at least"
    return Verdict(
        what,
        is_met=holds(middle, goal),
        is_sure=holds(low, goal) == holds(high, goal),
        found=f"{middle:.2f} (goal: {bound} {goal:g})",
    )
