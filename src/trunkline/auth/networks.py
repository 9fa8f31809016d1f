"""What counts as one address where somebody is counted by it. Pure."""

import functools
import ipaddress
from typing import Final

#: RFC 6177: no site is given less, so whoever has one IPv6 address has 2**64.
_ONES_OWN_BITS: Final = 64


@functools.lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """Return what an address counts as: itself, or its /64 if it is one of IPv6.

    Args:
        address: An address. What isn't one counts as it is.
    """
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    # A listener for both families sees IPv4 clients so (RFC 4291 section 2.5.5.2).
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    start = int(parsed) >> _ONES_OWN_BITS << _ONES_OWN_BITS
    return f"{ipaddress.IPv6Address(start)}/{_ONES_OWN_BITS}"
