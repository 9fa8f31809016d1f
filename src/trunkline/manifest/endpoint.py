"""An agent's endpoint, card and policies: the same in ``agent.yaml`` and on the wire.

Fields these models don't know are kept, so that what another tool of the contract wrote
comes back unharmed. :func:`unknown_fields` finds them for those who want to warn.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from trunkline.manifest.vocabulary import KNOWN_PROTOCOLS, LEGACY_PROTOCOLS, protocol_fault

LATEST = "@latest"

Protocol = Annotated[str, BeforeValidator(lambda word: _protocol(word))]


class Lenient(BaseModel):
    """A part of the contract: immutable, and keeping the fields it doesn't know."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON object, without the fields nobody set."""
        return self.model_dump(mode="json", exclude_none=True)


class VersionSelectionRule(Lenient):
    """Which share of new sessions goes to which version."""

    type: Literal["FixedRatio"] = "FixedRatio"
    agent_version: str
    traffic_percentage: Annotated[int, Field(ge=0, le=100, strict=True)]

    @field_validator("agent_version", mode="before")
    @classmethod
    def _name_a_version(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and value != LATEST and not (value.isascii() and value.isdigit()):
            if value.startswith("draft-"):
                raise ValueError(f'"{value[:60]}" is a draft, and drafts get no traffic')
            raise ValueError(f'"{value[:60]}" is not a version; write "{LATEST}" or such as "3"')
        return value


class VersionSelector(Lenient):
    """How new sessions are spread over versions."""

    version_selection_rules: tuple[VersionSelectionRule, ...] = Field(min_length=1)

    @field_validator("version_selection_rules")
    @classmethod
    def _sum_up(cls, rules: tuple[VersionSelectionRule, ...]) -> tuple[VersionSelectionRule, ...]:
        total = sum(rule.traffic_percentage for rule in rules)
        if total != 100:
            raise ValueError(f"traffic_percentage adds up to {total}; it must be 100")
        return rules


class IsolationKeySource(Lenient):
    """Where the key that keeps users' sessions apart comes from."""

    kind: Literal["Entra", "Header"]


class AuthorizationScheme(Lenient):
    """One way callers may prove who they are."""

    type: Literal["Entra", "BotService", "BotServiceRbac", "BotServiceTenant"]
    isolation_key_source: IsolationKeySource | None = None


class AgentEndpoint(Lenient):
    """What callers reach under an agent's name."""

    version_selector: VersionSelector | None = None
    protocol_configuration: dict[Protocol, dict[str, Any]] | None = None
    protocols: tuple[Protocol, ...] | None = None
    """The older, list form of ``protocol_configuration``."""
    authorization_schemes: tuple[AuthorizationScheme, ...] | None = None
    publish_approval_status: str | None = None


class AgentSkill(Lenient):
    """One thing an agent can do."""

    id: str
    name: str
    description: str | None = None
    tags: tuple[str, ...] | None = None
    examples: tuple[str, ...] | None = None


class AgentCard(Lenient):
    """How an agent presents itself."""

    version: str | None = None
    description: str | None = None
    skills: tuple[AgentSkill, ...] = ()


class InvocationsModeration(Lenient):
    """How the ``invocations`` protocol is moderated."""

    response_mode: Literal["non_streaming", "streaming", "both"] | None = None


class Policy(Lenient):
    """A policy an agent is subject to."""

    type: Literal["rai_policy"]
    rai_policy_name: str = Field(min_length=1)
    invocations_moderation: InvocationsModeration | None = None


class Policies(Lenient):
    """The policies of one agent."""

    policies: tuple[Policy, ...]

    @model_validator(mode="after")
    def _at_most_one(self) -> "Policies":
        if len(self.policies) > 1:
            raise ValueError("holds more than one rai_policy; keep one")
        return self


def unknown_fields(
    model: BaseModel, where: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], tuple[str, ...]]]:
    """Return each field the models don't know: its place, and the names known there."""
    known = tuple(type(model).model_fields)
    for name in model.model_extra or {}:
        yield (*where, name), known
    for name in known:
        value = getattr(model, name)
        items = enumerate(value) if isinstance(value, tuple) else [(None, value)]
        for index, item in items:
            if isinstance(item, BaseModel):
                place = (name,) if index is None else (name, index)
                yield from unknown_fields(item, (*where, *place))


def _protocol(word: object) -> object:
    if not isinstance(word, str):
        return word
    if fault := protocol_fault(word):
        raise ValueError(fault)
    known = LEGACY_PROTOCOLS.get(word, word)
    assert known in KNOWN_PROTOCOLS
    return known
