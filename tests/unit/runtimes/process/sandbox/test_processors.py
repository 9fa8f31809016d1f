"""What becomes of agents that always want a processor, from counters that a test makes up."""

from trunkline.runtimes.process.sandbox.cgroups import Usage
from trunkline.runtimes.process.sandbox.processors import ProcessorWatch


class Agent:
    """Counters, whether it runs, and whether the kernel can have it give way."""

    def __init__(self, *, may_yield: bool = True, can_yield: bool = True) -> None:
        self.runs = True
        self.gives_way = False
        self.can_yield = can_yield
        self.asked = 0
        self.told: list[str] = []
        self.periods = 0
        self.watch = ProcessorWatch(self, 0.5, may_yield=may_yield, tell=self.told.append)

    def is_running(self) -> bool:
        return self.runs

    def give_way(self, *, to_others: bool) -> bool:
        self.asked += 1
        if self.can_yield:
            self.gives_way = to_others
        return self.can_yield

    def look(self, *, periods: int = 20, throttled: int = 0, times: int = 1) -> None:
        for _ in range(times):
            self.periods += periods
            self.watch.look(Usage(periods=self.periods, throttled_periods=throttled))


def test_who_is_held_to_his_share_is_told() -> None:
    agent = Agent()
    agent.look(throttled=16)
    assert agent.told == [
        "it wants more than its 0.5 processors (resources.cpu), and is slowed down to that"
    ]


def test_who_always_wants_a_processor_gives_way_and_is_told() -> None:
    agent = Agent()
    agent.look(times=2)
    assert not agent.gives_way
    agent.look()
    assert agent.gives_way
    # From here on it hardly runs.
    agent.look(periods=1)
    assert not agent.told
    agent.look(periods=0)
    assert agent.told == [
        "it wants a processor all the time, and gets one when nobody else does; it may have 0.5 "
        "(resources.cpu)"
    ]
    assert agent.gives_way


def test_who_is_to_give_way_does_at_once_and_until_it_has_paused() -> None:
    agent = Agent()
    agent.look()
    agent.watch.give_way()
    agent.look(times=3)
    assert agent.gives_way
    agent.runs = False
    agent.look(times=2)
    assert not agent.gives_way


def test_nobody_is_to_give_way_where_that_is_turned_off() -> None:
    agent = Agent(may_yield=False)
    agent.watch.give_way()
    assert not agent.asked


def test_who_has_paused_is_as_good_as_any_other() -> None:
    agent = Agent()
    agent.look(times=3)
    agent.runs = False
    agent.look(periods=0)
    assert agent.gives_way
    agent.look(periods=0)
    assert not agent.gives_way
    agent.runs = True
    agent.look()
    assert not agent.gives_way


def test_who_would_never_run_gets_a_share_again_for_a_while() -> None:
    agent = Agent()
    agent.look(times=3)
    agent.look(periods=0)
    assert agent.gives_way
    agent.look(periods=0)
    assert not agent.gives_way
    agent.look(times=2)
    assert not agent.gives_way
    agent.look()
    assert agent.gives_way


def test_who_runs_now_and_then_stays_as_he_is() -> None:
    agent = Agent()
    for runs in (True, True, False, True, True, False):
        agent.runs = runs
        agent.look()
    # One that hardly ran since the last look isn't looked at.
    agent.runs = True
    agent.look(periods=1, times=9)
    agent.look(times=2)
    assert not agent.asked
    assert not agent.told


def test_who_need_not_give_way_is_told_all_the_same() -> None:
    agent = Agent(may_yield=False)
    agent.look(times=5)
    assert not agent.asked
    assert "shares them with others who do" in agent.told[0]


def test_a_kernel_that_can_not_is_asked_once() -> None:
    agent = Agent(can_yield=False)
    agent.look(times=5)
    assert agent.asked == 1
    assert "shares them with others who do" in agent.told[0]


def test_who_gave_way_in_another_process_of_the_platform_still_does() -> None:
    agent = Agent()
    agent.gives_way, agent.runs = True, False
    agent.look(periods=0, times=2)
    assert not agent.gives_way
