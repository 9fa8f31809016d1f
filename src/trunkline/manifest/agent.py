"""What an ``agent.yaml`` says, as typed values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trunkline.manifest.resources import DEFAULT_CPU, DEFAULT_MEMORY
from trunkline.manifest.vocabulary import DEFAULT_ENTRY_POINT, HOSTED_PROTOCOLS, REMOTE_BUILD
from trunkline.protocol.ids import AgentName


@dataclass(frozen=True, slots=True)
class AgentProtocol:
    """One protocol an agent speaks."""

    protocol: str
    version: str


@dataclass(frozen=True, slots=True)
class AgentResources:
    """What one session of the agent may use."""

    cpu: str = DEFAULT_CPU
    memory: str = DEFAULT_MEMORY


@dataclass(frozen=True, slots=True)
class AgentVariable:
    """An environment variable; its value may hold placeholders."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class AgentCode:
    """How the agent's code is run."""

    runtime: str | None = None
    """None: the Python the platform has."""
    entry_point: str = DEFAULT_ENTRY_POINT
    """A file of the agent's folder, with ``/`` between folders."""
    dependency_resolution: str = REMOTE_BUILD


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedAgent:
    """A checked ``agent.yaml``. Placeholders aren't filled in yet."""

    path: Path
    name: AgentName
    protocols: tuple[AgentProtocol, ...]
    display_name: str | None = None
    description: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Lists of the file are joined with commas: a version's metadata holds text only."""
    resources: AgentResources = AgentResources()
    environment_variables: tuple[AgentVariable, ...] = ()
    code: AgentCode | None = None
    """None exactly when there is an image."""
    image: str | None = None
    idle_timeout_seconds: int | None = None
    agent_endpoint: Mapping[str, Any] | None = None
    agent_card: Mapping[str, Any] | None = None
    policies: tuple[Mapping[str, Any], ...] = ()
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None

    @property
    def folder(self) -> Path:
        """The agent's folder: what is packaged."""
        return self.path.parent

    @property
    def hosted_protocols(self) -> tuple[str, ...]:
        """The protocols of the agent that trunkline carries. Never empty."""
        return tuple(p.protocol for p in self.protocols if p.protocol in HOSTED_PROTOCOLS)
