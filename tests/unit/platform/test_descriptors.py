"""As many connections as there are descriptors for."""

import resource

import pytest

from trunkline.platform import descriptors


@pytest.mark.parametrize(
    ("most", "allowed", "fit"),
    [
        (20_000, 1_048_576, 20_000),
        (20_000, 20_000, 9_500),
        (0, 20_000, 9_500),
        (100, 1024, 100),
        (20_000, 1024, 256),
        (20_000, 3, 1),
        (7, resource.RLIM_INFINITY, 7),
    ],
)
def test_what_fits(most: int, allowed: int, fit: int, caplog: pytest.LogCaptureFixture) -> None:
    assert descriptors.connections_within(most, allowed) == fit
    assert ("ulimit -n" in caplog.text) == (most > fit)


def test_the_soft_limit_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 1, before[1]))
    try:
        assert descriptors.raise_to_hard_limit() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
