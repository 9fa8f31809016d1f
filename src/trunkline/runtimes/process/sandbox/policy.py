"""What a version's author and the operator say about its network, as one policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from trunkline.runtimes.process.sandbox.addresses import Network
from trunkline.runtimes.process.sandbox.egress import EgressPolicy

#: Variables of a definition that narrow what the operator allows.
NETWORK_VARIABLE = "TRUNKLINE_NETWORK"
ALLOW_VARIABLE = "TRUNKLINE_EGRESS_ALLOW"


class NetworkPolicy(StrEnum):
    """How much of a network an agent has."""

    NONE = "none"
    """A network of its own in which nobody else is."""
    OUTBOUND = "outbound"
    """That, and a proxy to public addresses."""
    DIRECT = "direct"
    """A network of its own with an interface, from which public addresses are reached."""
    HOST = "host"
    """The machine's. No protection at all."""


@dataclass(frozen=True, slots=True)
class SessionNetwork:
    """One session's network."""

    policy: NetworkPolicy
    egress: EgressPolicy


def network_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return those of an agent's variables that its network is made by."""
    names = (NETWORK_VARIABLE, ALLOW_VARIABLE)
    return {name: environment[name] for name in names if name in environment}


def session_network(
    operator: NetworkPolicy,
    environment: Mapping[str, str],
    *,
    allow: tuple[str, ...],
    private: tuple[Network, ...],
) -> SessionNetwork:
    """Return what the operator allows, narrowed by what the version's definition says.

    Raises:
        ValueError: If the definition asks for what isn't a policy, or for more, or for what can't
            be held to.
    """
    policy = operator
    if wanted := environment.get(NETWORK_VARIABLE):
        if wanted not in set(NetworkPolicy):
            msg = f"{NETWORK_VARIABLE} is {wanted!r}; give none, outbound, direct or host"
            raise ValueError(msg)
        policy = NetworkPolicy(wanted)
        order = list(NetworkPolicy)
        if order.index(policy) > order.index(operator):
            msg = f"{NETWORK_VARIABLE} asks for {policy}, and this platform allows {operator}"
            raise ValueError(msg)
    own = environment.get(ALLOW_VARIABLE, "")
    hosts = tuple(part.strip() for part in own.split(",") if part.strip())
    if policy is NetworkPolicy.DIRECT and (hosts or allow):
        name = ALLOW_VARIABLE if hosts else "TRUNKLINE_PROCESS_EGRESS_ALLOW"
        msg = (
            f"{name} names hosts, and the network is direct, whose packets name none; for the "
            f"proxy, which holds to names, {NETWORK_VARIABLE} has to be outbound"
        )
        raise ValueError(msg)
    if allow and hosts:
        # Both have to agree.
        outer = EgressPolicy(allow=allow)
        hosts = tuple(host for host in hosts if outer.allows_host(host.removeprefix("*.")))
        hosts = hosts or (".nowhere",)
    return SessionNetwork(policy, EgressPolicy(allow=hosts or allow, private=private))
