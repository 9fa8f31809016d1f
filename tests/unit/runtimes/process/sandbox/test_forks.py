"""What becomes of agents that are refused processes again and again, from made-up counts."""

from trunkline.runtimes.process.sandbox.forks import ForkWatch


class Agent:
    """One whose processors are bounded."""

    def __init__(self) -> None:
        self.bounds: list[float] = []
        self.watch = ForkWatch(self, 2.0)

    def bound_cpu(self, cpu: float) -> None:
        self.bounds.append(cpu)

    def look(self, *refused: int) -> None:
        for count in refused:
            self.watch.look(count)


def test_a_bomb_is_held_until_it_has_stopped() -> None:
    agent = Agent()
    agent.look(900)
    assert (agent.bounds, agent.watch.is_held) == ([0.01], True)
    # It hardly runs; that it tries at all is enough.
    agent.look(1, 0, 1, 3, 0)
    assert agent.watch.is_held
    agent.look(0)
    assert (agent.bounds, agent.watch.is_held) == ([0.01, 2.0], False)
    agent.look(0, 900)
    assert agent.watch.is_held


def test_who_takes_no_for_an_answer_is_left_alone() -> None:
    agent = Agent()
    agent.look(1, 49, 0, 0, 20)
    assert (agent.bounds, agent.watch.is_held) == ([], False)


def test_who_is_to_end_gets_its_processors_back_and_keeps_them() -> None:
    agent = Agent()
    agent.look(900)
    agent.watch.let_end()
    agent.look(900)
    assert (agent.bounds, agent.watch.is_held) == ([0.01, 2.0], False)
    other = Agent()
    other.watch.let_end()
    assert other.bounds == []
