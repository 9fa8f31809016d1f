"""How many descriptors this process may have open, and how many connections that is enough for."""

import logging
import resource
import sys

_log = logging.getLogger("trunkline.platform")
#: For the store, logs, and agents' pipes and sockets.
_SPARE = 1000
#: A relayed connection has two ends.
_EACH = 2


def raise_to_hard_limit() -> int:
    """Take as many descriptors as the system allows; return how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            # Some systems call it unlimited and mean less.
            return soft
    return hard


def how_many_fit(descriptors: int) -> int:
    """Return how many connections a process with so many descriptors takes."""
    if descriptors == resource.RLIM_INFINITY:
        return sys.maxsize
    return max((descriptors - _SPARE) // _EACH, descriptors // (2 * _EACH), 1)


def connections_within(most: int, descriptors: int, *, sharers: int = 1) -> int:
    """Return how many connections there may be at once; a warning tells if it is fewer.

    A process that is out of descriptors can't even refuse a connection.

    Args:
        most: How many are wanted (``max_connections``); 0 for as many as there may be.
        descriptors: How many descriptors the process may have.
        sharers: How many processes share the connections. 0: another process tells.
    """
    if descriptors == resource.RLIM_INFINITY:
        return most
    fit = how_many_fit(descriptors)
    if most > fit * sharers > 0:
        _log.warning(
            "max_connections is %d, and there will be %d at most: the system lets a process have "
            "%d descriptors (the hard limit). Raise that to %d (`ulimit -n` as root, LimitNOFILE= "
            "of a service, --ulimit nofile= of a container), or set "
            "TRUNKLINE_GATEWAY_MAX_CONNECTIONS=%d",
            most,
            fit * sharers,
            descriptors,
            -(-most // sharers) * _EACH + _SPARE,
            fit * sharers,
        )
    return min(most, fit) if most else fit
