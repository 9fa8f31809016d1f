"""Which platform a command talks to, and as whom."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trunkline import config
from trunkline.cli.identity import local_token
from trunkline.cli.state import SessionMemory
from trunkline.client import (
    Endpoint,
    EndpointError,
    Project,
    TokenSource,
    is_address,
    parse_agent_address,
    resolve_endpoint,
)
from trunkline.manifest.env_files import STATE_FOLDER, find_project_root

#: As an endpoint: the platform that `trunkline run` runs in this project.
LOCAL = "local"
_RUN_FILE = Path(STATE_FOLDER) / "run" / "platform.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What a command was told about its platform."""

    endpoint: str | None = None
    state_dir: Path | None = None
    insecure_http: bool = False
    user_identity: str | None = None

    def open(self, roles: Sequence[str] | None = None) -> Project:
        """Return the project that is meant, with a token for it.

        Args:
            roles: What a token that is made for this may do; None for what the platform's
                settings say. A token of the environment does what it does.
        """
        return open_project(
            self.endpoint,
            self.state_dir,
            insecure_http=self.insecure_http,
            roles=roles,
            user_identity=self.user_identity,
        )

    def memory(self) -> SessionMemory:
        """Return what is remembered of the sessions used from here."""
        return SessionMemory(self.state_dir or config.default_state_dir(), self.user_identity)

    def of_agent(self, agent: str, session_id: str | None) -> tuple["Where", str, str | None]:
        """Return where an agent is, its name and the session, of a name or a whole address."""
        if not is_address(agent):
            return self, agent, session_id
        address = parse_agent_address(agent)
        where = dataclasses.replace(self, endpoint=address.endpoint.url)
        return where, address.agent, session_id or address.session_id


def open_project(
    endpoint: str | None,
    state_dir: Path | None,
    *,
    insecure_http: bool,
    roles: Sequence[str] | None = None,
    user_identity: str | None = None,
) -> Project:
    """Return the project that is meant, with a token for it; ``roles`` as for :class:`Where`."""
    env = config.environment()
    if (endpoint or env.get("TRUNKLINE_ENDPOINT")) == LOCAL:
        running = running_here(Path.cwd())
        endpoint, state_dir = running.url, state_dir or running.state_dir
    where = resolve_endpoint(endpoint, env)
    wanted = None if roles is None else list(roles)
    token = choose_token(
        where, env.get("TRUNKLINE_TOKEN"), lambda: local_token(state_dir, roles=wanted)
    )
    return Project(where, token, allow_insecure_http=insecure_http, user_identity=user_identity)


def choose_token(
    endpoint: Endpoint, given: str | None, local: Callable[[], str]
) -> TokenSource | None:
    """Return the environment's token, else this machine's issuer if that is where it goes."""
    if given:
        return given
    return local if endpoint.is_loopback else None


@dataclass(frozen=True, slots=True)
class RunningHere:
    """The platform of a `trunkline run`."""

    url: str
    state_dir: Path


def run_file(project: Path) -> Path:
    """Return where a project's `trunkline run` says where it is."""
    return project / _RUN_FILE


def running_here(start: Path) -> RunningHere:
    """Return the platform that `trunkline run` runs in this project.

    Raises:
        EndpointError: If there is none.
    """
    path = run_file(find_project_root(start))
    try:
        said = json.loads(path.read_bytes())
        return RunningHere(str(said["url"]), Path(said["state_dir"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise EndpointError(
            "no agent runs locally in this project: start it with `trunkline run` in another "
            "terminal"
        ) from None
