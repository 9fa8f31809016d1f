"""The environment an agent process is given (the hosted-agents contract's variables)."""

import uuid
from collections.abc import Mapping

from trunkline.protocol import environment as names
from trunkline.protocol.ids import SessionKey
from trunkline.sessions.settings import SessionSettings
from trunkline.store.records import VersionRecord

#: Ids that have to stay the same on every start are derived from names under this one.
_NAMESPACE = uuid.UUID("5f0a52e4-1f55-4a54-9c6e-2b1d4a3f7c10")


def agent_environment(
    key: SessionKey, version: VersionRecord, settings: SessionSettings, endpoint: str
) -> Mapping[str, str]:
    """Return the contract's variables over the definition's own.

    Args:
        key: The session.
        version: Its version.
        settings: The limits the agent's host should know of.
        endpoint: Where the platform is reached, without the project's path.
    """
    own = version.definition.get("environment_variables") or {}
    return {
        **{name: value for name, value in own.items() if not names.is_reserved(name)},
        names.HOSTING_ENVIRONMENT: "trunkline",
        names.AGENT_NAME: key.agent,
        names.AGENT_VERSION: version.version,
        names.AGENT_ID: str(uuid.uuid5(_NAMESPACE, f"{key.project}/{key.agent}")),
        names.AGENT_SESSION_ID: key.session_id,
        names.AGENT_SESSION_GUID: uuid.uuid5(_NAMESPACE, str(key)).hex,
        names.PROJECT_ENDPOINT: f"{endpoint}/api/projects/{key.project}",
        names.WS_KEEPALIVE_INTERVAL: own.get(
            names.WS_KEEPALIVE_INTERVAL, f"{settings.keepalive_interval_s:g}"
        ),
        # trunkline's host fits its own times into it; another one is told one of them.
        names.STOP_TIMEOUT: f"{settings.stop_timeout_s:g}",
        # A host takes its grace twice at worst: for what is open, then for its shutdown handler.
        names.SHUTDOWN_GRACE: own.get(
            names.SHUTDOWN_GRACE, str(max(int(settings.stop_timeout_s / 2) - 1, 0))
        ),
    }
