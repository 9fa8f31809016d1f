from trunkline.agentserver._ws_keepalive import KeepAlive


class FakeLoop:
    """Runs its one timer when told."""

    def __init__(self):
        self.due = None
        self.delay = None

    def call_later(self, delay, callback):
        self.delay = delay
        self.due = callback
        return self

    def cancel(self):
        self.due = None

    def advance(self):
        due, self.due = self.due, None
        due()


class Peer:
    def __init__(self, interval_s=5.0):
        self.loop = FakeLoop()
        self.pings = 0
        self.dead = 0
        self.frames = 0
        self.keepalive = KeepAlive(self.loop, interval_s, self)

    def ping(self):
        self.pings += 1

    def seen(self):
        return self.frames

    def is_dead(self):
        self.dead += 1


def test_a_peer_that_answers_lives():
    peer = Peer()
    for _ in range(5):
        peer.loop.advance()
        peer.frames += 1
    assert (peer.pings, peer.dead) == (5, 0)
    assert peer.loop.delay == 5.0


def test_a_silent_peer_dies_one_interval_after_its_first_ping():
    peer = Peer()
    peer.loop.advance()
    assert (peer.pings, peer.dead) == (1, 0)
    peer.loop.advance()
    assert (peer.pings, peer.dead) == (1, 0)
    assert peer.loop.delay < 5.0
    peer.loop.advance()
    assert (peer.pings, peer.dead) == (1, 1)
    assert peer.loop.due is None


def test_an_answer_found_at_the_second_look_counts():
    peer = Peer()
    peer.loop.advance()
    peer.loop.advance()
    peer.frames += 1
    peer.loop.advance()
    assert (peer.pings, peer.dead) == (2, 0)
    assert peer.loop.delay == 5.0


def test_a_peer_that_nobody_listens_to_is_not_blamed():
    peer = Peer()
    peer.loop.advance()
    peer.frames = None
    for _ in range(3):
        peer.loop.advance()
    peer.frames = 0
    peer.loop.advance()
    assert peer.dead == 0
    peer.loop.advance()
    peer.loop.advance()
    assert peer.dead == 1


def test_zero_is_off():
    assert Peer(interval_s=0).loop.due is None


def test_stopping_twice_is_fine():
    peer = Peer()
    peer.keepalive.stop()
    peer.keepalive.stop()
    assert peer.loop.due is None
