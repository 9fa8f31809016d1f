"""What of an agent's environment nobody may read: kept encrypted, and opened when it starts.

A version's definition has two maps: the variables, and the secret ones, whose values are
encrypted. A variable that isn't secret may name secrets of its project: ``${{secrets.NAME}}``.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from trunkline.auth.secret_box import SecretBox
from trunkline.protocol import environment as names
from trunkline.protocol.errors import InvalidRequestError, SessionNotReadyError
from trunkline.protocol.ids import AgentName, ProjectName
from trunkline.store.interface import SecretStore
from trunkline.store.records import VersionRecord

VARIABLES: Final = "environment_variables"
HIDDEN: Final = "secret_environment_variables"
NAME_RULE: Final = "a letter or _, then up to 127 letters, digits and _"
NAME_PATTERN: Final = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
_REFERENCE: Final = re.compile(rf"\$\{{\{{\s*secrets\.({NAME_PATTERN})\s*\}}\}}")


class AgentSecrets:
    """Seals what comes with a version, and opens it for its sessions."""

    def __init__(self, box: SecretBox, store: SecretStore) -> None:
        self._box = box
        self._store = store

    def seal(
        self,
        project: ProjectName,
        agent: AgentName,
        definition: Mapping[str, Any],
        latest: VersionRecord | None,
    ) -> dict[str, Any]:
        """Return a definition as it is kept: the values of its secret variables encrypted.

        One that comes without a value keeps the one of the latest version, as for a client that
        sends back what it was shown.

        Raises:
            InvalidRequestError: If there is no value for one.
        """
        wanted = definition.get(HIDDEN)
        if not wanted:
            return {name: value for name, value in definition.items() if name != HIDDEN}
        plain = dict(definition.get(VARIABLES) or {})
        known = (latest.definition.get(HIDDEN) or {}) if latest is not None else {}
        sealed = {}
        for name in sorted(set(wanted)):
            if name in plain:
                sealed[name] = self._box.seal(plain.pop(name), project, agent, name)
            elif name in known:
                sealed[name] = known[name]
            else:
                raise InvalidRequestError(
                    f"{HIDDEN} names {name[:64]!r}, which has no value in {VARIABLES}",
                    param=f"definition.{HIDDEN}",
                )
        return {**definition, VARIABLES: plain, HIDDEN: sealed}

    def comparable(
        self, project: ProjectName, agent: AgentName, sealed: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return a kept definition such that equal ones are equal and no value can be guessed."""
        hidden = sealed.get(HIDDEN)
        if not hidden:
            return dict(sealed)
        prints = {
            name: self._box.fingerprint(self._box.unseal(value, project, agent, name))
            for name, value in hidden.items()
        }
        return {**sealed, HIDDEN: prints}

    async def open(self, version: VersionRecord) -> dict[str, str]:
        """Return the variables of a version that hold something secret, by name.

        Raises:
            SessionNotReadyError: If it names a secret that its project doesn't have.
            SecretKeyError: If it was encrypted with a key that isn't here.
        """
        definition, project = version.definition, version.project
        opened = {
            name: self._box.unseal(value, project, version.agent, name)
            for name, value in (definition.get(HIDDEN) or {}).items()
        }
        for name, text in (definition.get(VARIABLES) or {}).items():
            for wanted in dict.fromkeys(_REFERENCE.findall(text)):
                value = await self._find(project, wanted)
                opened[name] = _filled(opened.get(name, text), wanted, value)
        return {name: value for name, value in opened.items() if not names.is_reserved(name)}

    async def _find(self, project: ProjectName, name: str) -> str:
        record = await self._store.find_secret(project, name)
        if record is None:
            raise SessionNotReadyError(
                f"the agent's environment names the secret {name}, which project {project!r} "
                f"doesn't have; `trunkline secret set {name}` sets it"
            )
        return self.unseal(record.sealed, project, name)

    def seal_of_project(self, value: str, project: ProjectName, name: str) -> str:
        """Return one of a project's secrets as it is kept."""
        return self._box.seal(value, project, "", name)

    def unseal(self, sealed: str, project: ProjectName, name: str) -> str:
        """Return one of a project's secrets.

        Raises:
            SecretKeyError: If it was encrypted with a key that isn't here.
        """
        return self._box.unseal(sealed, project, "", name)


def _filled(text: str, wanted: str, value: str) -> str:
    return _REFERENCE.sub(lambda match: value if match[1] == wanted else match[0], text)


def shown(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a kept definition as anybody may see it: of secret variables the names only."""
    hidden = definition.get(HIDDEN)
    return {**definition, HIDDEN: sorted(hidden)} if hidden else dict(definition)
