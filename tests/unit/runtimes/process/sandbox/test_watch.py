"""What is told of agents' limits, from counters that a test makes up."""

import signal

from trunkline.runtimes.process.sandbox.cgroups import Limits, Usage
from trunkline.runtimes.process.sandbox.watch import LimitWatch

LIMITS = Limits(cpu=0.5, memory_bytes=1, pids=8, home_bytes=1)


class Agent:
    """Counters, and whether it runs."""

    def __init__(self) -> None:
        self.runs = True
        self.told: list[tuple[str, str, str]] = []
        self.ended: list[signal.Signals] = []
        self.watch = LimitWatch(
            self, (), LIMITS, tell=lambda *words: self.told.append(words), end=self.ended.append
        )

    def usage(self) -> Usage:
        raise NotImplementedError

    def is_running(self) -> bool:
        return self.runs

    def look(self, *periods: int, throttled: int = 0) -> None:
        for each in periods:
            self.watch.look(Usage(periods=each, throttled_periods=throttled))


def test_who_is_held_to_his_share_is_told_once() -> None:
    agent = Agent()
    agent.look(20, throttled=16)
    agent.look(40, throttled=36)
    assert [(limit, reason) for limit, reason, _ in agent.told] == [("cpu", "CpuLimit")]
    assert "0.5 processors (resources.cpu), and is slowed down" in agent.told[0][2]


def test_who_always_wants_a_processor_is_told_where_none_is_free() -> None:
    agent = Agent()
    agent.look(20, 40, 60, 80)
    assert not agent.told
    agent.look(100)
    assert [(limit, reason) for limit, reason, _ in agent.told] == [("cpu", "CpuLimit")]
    assert "shares them with others who do, in proportion to its 0.5" in agent.told[0][2]
    agent.look(120, 140)
    assert len(agent.told) == 1


def test_who_waits_now_and_then_is_not_told() -> None:
    agent = Agent()
    agent.look(20, 40, 60, 80)
    agent.runs = False
    agent.look(100)
    agent.runs = True
    agent.look(120, 140, 160, 180)
    # One that hardly ran since the last look isn't looked at.
    agent.look(181)
    agent.look(201)
    assert not agent.told
