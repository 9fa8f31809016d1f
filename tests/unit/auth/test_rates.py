"""How often somebody may ask."""

import pytest

from trunkline.auth.rates import Rate, Rates, RateSettings
from trunkline.gateway.responses import headers_for
from trunkline.protocol.errors import RateLimitedError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_ten_seconds_worth_at_once_and_then_as_many_as_may() -> None:
    clock = Clock()
    rate = Rate(2, "upgrades_per_address", "this address", clock=clock)
    for _ in range(20):
        rate.take("a")
    with pytest.raises(RateLimitedError, match="upgrades_per_address") as caught:
        rate.take("a")
    assert caught.value.limit == "upgrades_per_address"
    assert headers_for(caught.value) == [("retry-after", "1")]
    rate.take("b")
    clock.now = 0.6
    rate.take("a")
    with pytest.raises(RateLimitedError):
        rate.take("a")
    clock.now = 1000
    for _ in range(20):
        rate.take("a")
    with pytest.raises(RateLimitedError):
        rate.take("a")


def test_whoever_has_a_network_of_ipv6_has_one_bucket() -> None:
    rates = Rates(RateSettings(failures_per_address=1, calls_per_address=1, upgrades_per_address=1))
    for rate in (rates.failures_by_address, rates.calls_by_address, rates.upgrades_by_address):
        for number in range(10):
            rate.take(f"2001:db8:0:1::{number:x}")
        for address in ("2001:db8:0:1::b", "2001:0DB8:0:1:ffff:ffff:ffff:ffff"):
            with pytest.raises(RateLimitedError):
                rate.check(address)
        rate.check("2001:db8:0:2::b")
        rate.check("192.0.2.1")
        for number in range(10):
            rate.take("::ffff:192.0.2.1" if number % 2 else "192.0.2.1")
        with pytest.raises(RateLimitedError):
            rate.check("192.0.2.1")
        rate.check("192.0.2.2")
    rates.calls_by_identity.check("2001:db8:0:1::b")


def test_how_long_to_wait() -> None:
    rate = Rate(0.1, "x", "it", clock=Clock())
    rate.take("a")
    with pytest.raises(RateLimitedError) as caught:
        rate.check("a")
    assert caught.value.retry_after_s == 10


def test_none_is_no_limit_and_keeps_nothing() -> None:
    rate = Rate(0, "x", "it")
    for _ in range(1000):
        rate.take("a")
    assert len(rate) == 0


def test_what_is_remembered_is_bounded() -> None:
    rate = Rate(1, "x", "it", clock=Clock())
    for number in range(30_000):
        rate.take(str(number))
    assert len(rate) == 20_000


def test_a_rate_is_not_negative() -> None:
    with pytest.raises(ValueError, match="calls_per_identity"):
        RateSettings(calls_per_identity=-1)
