"""The hosted definition and the create-version request, as they go over the wire.

The contract's older spellings are accepted and turned into the present ones. Fields not
known here are kept. What is refused is refused with the field's path and what is right.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from trunkline.manifest.agent import LoadedAgent
from trunkline.manifest.complaints import complaints, dotted
from trunkline.manifest.endpoint import AgentCard, AgentEndpoint, Lenient, Protocol
from trunkline.manifest.placeholders import names_in, resolve
from trunkline.manifest.resources import (
    DEFAULT_CPU,
    DEFAULT_MEMORY,
    cpu_fault,
    memory_fault,
    parse_cpu,
    parse_memory_bytes,
)
from trunkline.manifest.vocabulary import (
    DEFAULT_ENTRY_POINT,
    HOSTED_PROTOCOLS,
    KNOWN_PROTOCOLS,
    MAX_IDLE_TIMEOUT_SECONDS,
    MIN_IDLE_TIMEOUT_SECONDS,
    REMOTE_BUILD,
    dependency_resolution_fault,
    hosted_fault,
    image_fault,
    metadata_fault,
    name_fault,
    protocol_version_fault,
    runtime_fault,
    variable_name_fault,
    variable_value_fault,
)
from trunkline.protocol.errors import InvalidRequestError


def _free_of(fault_of: Any) -> AfterValidator:
    """Make a validator of a function that tells what is wrong with a value."""

    def check(value: Any) -> Any:
        if fault := fault_of(value):
            raise ValueError(fault)
        return value

    return AfterValidator(check)


def _as_text(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _variables_fault(variables: Mapping[str, str]) -> str | None:
    for name, value in variables.items():
        if fault := variable_name_fault(name):
            return fault
        if fault := variable_value_fault(value):
            return f'the value of "{name}" {fault}'
    return None


_Quantity = BeforeValidator(_as_text)


class ContainerConfiguration(Lenient):
    """An agent shipped as a container image."""

    image: Annotated[str, _free_of(image_fault)]
    registry_connection_id: str | None = None


class ProtocolVersion(Lenient):
    """One protocol an agent speaks."""

    protocol: Protocol
    version: Annotated[str, _free_of(protocol_version_fault)]

    @model_validator(mode="before")
    @classmethod
    def _fill_in_version(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("version") is None:
            default = KNOWN_PROTOCOLS.get(str(data.get("protocol")), "1.0.0")
            return {**data, "version": default}
        return data


class CodeConfiguration(Lenient):
    """An agent shipped as a zip of Python files."""

    runtime: Annotated[str, _free_of(runtime_fault)] | None = None
    """None: the Python the platform has."""
    entry_point: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=("python", DEFAULT_ENTRY_POINT), min_length=1
    )
    dependency_resolution: Annotated[str, _free_of(dependency_resolution_fault)] = REMOTE_BUILD
    content_hash: str | None = None
    """The zip's sha256 in lower-case hex. The platform's to set."""


class SessionConfiguration(Lenient):
    """How an agent's sessions live."""

    idle_timeout_seconds: (
        Annotated[int, Field(ge=MIN_IDLE_TIMEOUT_SECONDS, le=MAX_IDLE_TIMEOUT_SECONDS, strict=True)]
        | None
    ) = None


class HostedDefinition(Lenient):
    """What a version of an agent is: what to run, with what, speaking which protocols."""

    kind: Literal["hosted"]
    cpu: Annotated[str, _Quantity, _free_of(cpu_fault)] = DEFAULT_CPU
    memory: Annotated[str, _Quantity, _free_of(memory_fault)] = DEFAULT_MEMORY
    container_configuration: ContainerConfiguration | None = None
    code_configuration: CodeConfiguration | None = None
    protocol_versions: tuple[ProtocolVersion, ...] = Field(min_length=1)
    environment_variables: Annotated[dict[str, str], _free_of(_variables_fault)] = Field(
        default_factory=dict
    )
    secret_environment_variables: tuple[str, ...] | None = None
    session_configuration: SessionConfiguration | None = None
    rai_config: dict[str, Any] | None = None
    telemetry_config: dict[str, Any] | None = None
    enable_memory_snapshot: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _modernise(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = {key: value for key, value in data.items() if value is not None}
        older = data.pop("container_protocol_versions", None)
        if older is not None and data.setdefault("protocol_versions", older) != older:
            raise ValueError(
                'holds "container_protocol_versions" and a different "protocol_versions"; '
                "keep the latter"
            )
        image = data.pop("image", None)
        if image is not None:
            container = data.setdefault("container_configuration", {"image": image})
            if not isinstance(container, dict) or container.get("image") != image:
                raise ValueError(
                    'holds "image" and a different "container_configuration"; keep the latter'
                )
        return data

    @model_validator(mode="after")
    def _check_whole(self) -> "HostedDefinition":
        if self.container_configuration and self.code_configuration:
            raise ValueError(
                'holds "container_configuration" and "code_configuration"; keep one of the two'
            )
        names = [entry.protocol for entry in self.protocol_versions]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise ValueError(f'lists the protocol "{twice[0]}" twice in "protocol_versions"')
        if fault := hosted_fault(names):
            raise ValueError(fault)
        return self

    @property
    def image(self) -> str | None:
        """The container image, or None for an agent shipped as code."""
        return self.container_configuration.image if self.container_configuration else None

    @property
    def cpu_cores(self) -> float:
        """How many processors a session may use."""
        return parse_cpu(self.cpu)

    @property
    def memory_bytes(self) -> int:
        """How much memory a session may use."""
        return parse_memory_bytes(self.memory)

    @property
    def idle_timeout_s(self) -> int | None:
        """After how long without traffic a session goes idle. None: as the platform is set."""
        configuration = self.session_configuration
        return configuration.idle_timeout_seconds if configuration else None

    @property
    def hosted_protocols(self) -> tuple[str, ...]:
        """The protocols of the agent that trunkline carries. Never empty."""
        names = (entry.protocol for entry in self.protocol_versions)
        return tuple(name for name in names if name in HOSTED_PROTOCOLS)

    def with_content_hash(self, sha256: str) -> "HostedDefinition":
        """Return the definition of an agent shipped as code, bound to its zip."""
        code = self.code_configuration or CodeConfiguration()
        code = code.model_copy(update={"content_hash": sha256})
        return self.model_copy(update={"code_configuration": code})

    def fingerprint(self) -> str:
        """Return a text that is equal for equal definitions only, whatever their keys' order."""
        canonical = json.dumps(self.to_wire(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


class CreateVersionRequest(Lenient):
    """The body that creates a version of an agent, and the agent with its first one."""

    name: Annotated[str, _free_of(name_fault)] | None = None
    """Only where the path doesn't name the agent."""
    definition: HostedDefinition
    description: str | None = None
    metadata: Annotated[dict[str, str], _free_of(metadata_fault)] = Field(default_factory=dict)
    draft: bool | None = None
    blueprint_reference: dict[str, Any] | None = None
    digital_worker_type: str | None = None
    agent_endpoint: AgentEndpoint | None = None
    agent_card: AgentCard | None = None


class AgentSettings(Lenient):
    """What may be changed of an agent without a new version."""

    agent_endpoint: AgentEndpoint | None = None
    agent_card: AgentCard | None = None


def parse_agent_settings(body: bytes | str | Mapping[str, Any]) -> AgentSettings:
    """Read an agent's endpoint and card from JSON, or from what JSON was decoded to.

    Raises:
        InvalidRequestError: With every problem found; ``param`` names the first's place.
    """
    try:
        return AgentSettings.model_validate(_decoded(body))
    except ValidationError as exc:
        _refuse(exc, "")


def parse_definition(body: bytes | str | Mapping[str, Any]) -> HostedDefinition:
    """Read a hosted definition from JSON, or from what JSON was decoded to.

    Raises:
        InvalidRequestError: With every problem found; ``param`` names the first's place.
    """
    try:
        return HostedDefinition.model_validate(_decoded(body))
    except ValidationError as exc:
        _refuse(exc, "definition")


def parse_create_version(body: bytes | str | Mapping[str, Any]) -> CreateVersionRequest:
    """Read a create-version request from JSON, or from what JSON was decoded to.

    Raises:
        InvalidRequestError: With every problem found; ``param`` names the first's place.
    """
    try:
        return CreateVersionRequest.model_validate(_decoded(body))
    except ValidationError as exc:
        _refuse(exc, "")


def definition_from_agent(
    loaded: LoadedAgent, values: Mapping[str, str]
) -> tuple[CreateVersionRequest, tuple[str, ...]]:
    """Make the request that deploys an agent.

    Args:
        loaded: The checked ``agent.yaml``.
        values: What its placeholders stand for.

    Returns:
        The request, and the variables that were asked for and not in ``values``.

    Raises:
        InvalidRequestError: If something is wrong once the placeholders are filled in.
    """
    unset: dict[str, None] = {}

    def fill(text: str) -> str:
        resolved = resolve(text, values)
        unset.update(dict.fromkeys(resolved.unset))
        return resolved.text

    definition: dict[str, Any] = {
        "kind": "hosted",
        "cpu": loaded.resources.cpu,
        "memory": loaded.resources.memory,
        "protocol_versions": [
            {"protocol": entry.protocol, "version": entry.version} for entry in loaded.protocols
        ],
        "environment_variables": {
            variable.name: fill(variable.value) for variable in loaded.environment_variables
        },
    }
    # What is filled in stays out of the agent.yaml because it isn't for everybody's eyes.
    secret = [v.name for v in loaded.environment_variables if names_in(v.value)]
    if secret:
        definition["secret_environment_variables"] = secret
    if loaded.image is not None:
        definition["container_configuration"] = {"image": fill(loaded.image)}
    if loaded.code is not None:
        definition["code_configuration"] = {
            "runtime": loaded.code.runtime,
            "entry_point": ["python", loaded.code.entry_point],
            "dependency_resolution": loaded.code.dependency_resolution,
        }
    if loaded.idle_timeout_seconds is not None:
        definition["session_configuration"] = {"idle_timeout_seconds": loaded.idle_timeout_seconds}
    for policy in loaded.policies:
        definition["rai_config"] = {k: v for k, v in policy.items() if k != "type"}
    body = {
        "name": loaded.name,
        "definition": definition,
        "description": loaded.description,
        "metadata": dict(loaded.metadata),
        "agent_endpoint": loaded.agent_endpoint,
        "agent_card": loaded.agent_card,
    }
    return parse_create_version(body), tuple(unset)


def _decoded(body: bytes | str | Mapping[str, Any]) -> Any:
    if isinstance(body, Mapping):
        return dict(body)
    try:
        return json.loads(body, parse_constant=_no_constant)
    except json.JSONDecodeError as exc:
        place = f"line {exc.lineno}, column {exc.colno}"
        raise InvalidRequestError(f"the body isn't JSON: {exc.msg} at {place}") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequestError("the body isn't UTF-8") from exc
    except (RecursionError, ValueError) as exc:
        raise InvalidRequestError(f"the body isn't JSON that can be read: {exc}") from exc


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _refuse(error: ValidationError, root: str) -> NoReturn:
    found = [((root, *where) if root else where, text) for where, text in complaints(error)]
    message = "; ".join(f"{dotted(where) or 'the body'}: {text}" for where, text in found)
    raise InvalidRequestError(message, param=dotted(found[0][0]) or None) from None
