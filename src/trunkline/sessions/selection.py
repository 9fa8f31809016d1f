"""Which version a new session gets: the endpoint's rules, or what the caller names."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.protocol.errors import (
    AgentDisabledError,
    AgentNotFoundError,
    ProtocolNotDeclaredError,
    VersionFailedError,
    VersionNotFoundError,
    VersionNotReadyError,
)
from trunkline.protocol.ids import AgentName, ProjectName, SessionKey, VersionId
from trunkline.store.interface import VersionStore
from trunkline.store.records import AgentRecord, VersionRecord, VersionStatus

LATEST = "@latest"


def rules_of(endpoint: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return an endpoint's rules; without any, everything goes to the latest version."""
    selector = endpoint.get("version_selector") or {}
    rules: Sequence[Mapping[str, Any]] = selector.get("version_selection_rules") or ()
    return rules or ({"type": "FixedRatio", "agent_version": LATEST, "traffic_percentage": 100},)


def routed_versions(endpoint: Mapping[str, Any]) -> set[VersionId]:
    """Return the versions that an endpoint's rules name."""
    return {VersionId(str(rule["agent_version"])) for rule in rules_of(endpoint)} - {
        VersionId(LATEST)
    }


async def select_version(store: VersionStore, agent: AgentRecord) -> VersionRecord:
    """Return the version a new session of the agent gets, chosen by the rules' ratios.

    Raises:
        AgentNotFoundError: If it has no version at all.
        VersionNotReadyError: If the one that was chosen can't be started.
        VersionNotFoundError: If it isn't there any more.
    """
    rules = rules_of(agent.endpoint)
    chosen = rules[0]
    if len(rules) > 1:
        weights = [rule.get("traffic_percentage", 0) for rule in rules]
        # Which caller gets which version need not be hard to foresee.
        (chosen,) = random.choices(rules, weights)  # noqa: S311
    if chosen["agent_version"] == LATEST:
        return await _latest(store, agent)
    return await named_version(store, agent.project, agent.name, chosen["agent_version"])


async def named_version(
    store: VersionStore, project: ProjectName, agent: AgentName, version: str
) -> VersionRecord:
    """Return a version that can be started.

    Raises:
        VersionNotFoundError: If the agent has no such version.
        VersionNotReadyError: If it is still being built, or its build failed.
    """
    record = await store.find_version(project, agent, VersionId(version))
    if record is None:
        raise VersionNotFoundError(f"agent {agent!r} has no version {version[:64]!r}")
    check_ready(record)
    return record


async def _latest(store: VersionStore, agent: AgentRecord) -> VersionRecord:
    active = await store.latest_version(agent.project, agent.name, status=VersionStatus.ACTIVE)
    if active is not None:
        return active
    latest = await store.latest_version(agent.project, agent.name)
    if latest is None:
        raise AgentNotFoundError(
            f"agent {agent.name!r} has no version that could be routed to; deploy one"
        )
    check_ready(latest)
    return latest


def check_ready(record: VersionRecord) -> None:
    """Refuse a version that can't be started.

    Raises:
        VersionNotReadyError: Saying why it can't.
    """
    what = f"version {record.version} of agent {record.agent!r}"
    if record.status is VersionStatus.FAILED:
        raise VersionFailedError(f"{what} couldn't be built: {record.error}")
    if record.status is not VersionStatus.ACTIVE:
        raise VersionNotReadyError(f"{what} is still being built; try again")


def enabled(agent: AgentRecord | None, key: SessionKey) -> AgentRecord:
    """Return the agent that a session is of.

    Raises:
        AgentNotFoundError: If there is none.
        AgentDisabledError: If it takes no calls.
    """
    if agent is None:
        raise AgentNotFoundError(
            f"no agent {key.agent!r} in project {key.project!r}; `trunkline list` shows those "
            "that are there"
        )
    if not agent.is_enabled:
        raise AgentDisabledError(f"agent {key.agent!r} is disabled; enable it to call it")
    return agent


def is_routed(agent: AgentRecord, version: VersionRecord, protocol: str) -> bool:
    """Tell whether a protocol is routed: the version and the endpoint both have a say."""
    routed = agent.endpoint.get("protocol_configuration")
    return protocol in version.protocols and (not routed or protocol in routed)


def check_protocol(agent: AgentRecord, version: VersionRecord, protocol: str) -> None:
    """Refuse a protocol that isn't routed: the version and the endpoint both have a say.

    Raises:
        ProtocolNotDeclaredError: Naming what is routed.
    """
    if protocol not in version.protocols:
        declared = ", ".join(sorted(version.protocols)) or "none"
        raise ProtocolNotDeclaredError(
            f"version {version.version} of agent {agent.name!r} doesn't declare the protocol "
            f"{protocol}; its agent.yaml declares {declared}"
        )
    routed = agent.endpoint.get("protocol_configuration") or {}
    if routed and protocol not in routed:
        raise ProtocolNotDeclaredError(
            f"the endpoint of agent {agent.name!r} doesn't route the protocol {protocol}; its "
            f"protocol_configuration has {', '.join(sorted(routed))}"
        )
