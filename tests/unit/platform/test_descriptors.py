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
    assert ("hard limit" in caplog.text) == (most > fit)


@pytest.mark.parametrize(
    ("sharers", "words"),
    [
        (1, "there will be 9500 at most"),
        (2, "there will be 19000 at most"),
        (3, ""),
        # Another process has told it.
        (0, ""),
    ],
)
def test_what_is_told_counts_all_who_share(
    sharers: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert descriptors.connections_within(20_000, 20_000, sharers=sharers) == 9_500
    assert (words in caplog.text) if words else not caplog.text
    if sharers == 2:
        assert "Raise that to 21000 " in caplog.text
        assert "TRUNKLINE_GATEWAY_MAX_CONNECTIONS=19000" in caplog.text


def test_the_soft_limit_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 1, before[1]))
    try:
        assert descriptors.raise_to_hard_limit() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
