"""Who a connection comes from, also when a proxy that is trusted to know brings it."""

import ipaddress
from collections.abc import Iterable


class TrustedProxies:
    """The networks whose ``X-Forwarded-For`` is believed."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def trusts(self, address: str) -> bool:
        """Tell whether an address is such a proxy's."""
        if not self._networks:
            return False
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client_of(self, peer: str, forwarded: str | None) -> str:
        """Return the client's address.

        Each proxy appends whom it was called by, so the list is read from its end for as long as
        those who wrote it are trusted. What stands before that anybody may have made up.

        Args:
            peer: Who has connected to us.
            forwarded: The values of ``X-Forwarded-For``, joined by commas.
        """
        client = peer
        if not forwarded or not self.trusts(peer):
            return client
        for hop in reversed(forwarded.split(",")):
            parsed = _parse(hop.strip())
            if parsed is None:
                break
            client = str(parsed)
            if not self.trusts(client):
                break
        return client


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    # Some proxies add a port: 192.0.2.1:4711, [2001:db8::1]:4711.
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A listener for both families sees IPv4 clients so (RFC 4291 section 2.5.5.2).
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed
