"""Which agent a command means: that of a folder, or a service of an ``azure.yaml``."""

from pathlib import Path

from trunkline.manifest.agent import LoadedAgent
from trunkline.manifest.agent_yaml import AGENT_FILES, load_agent
from trunkline.manifest.env_files import Environments, find_project_root
from trunkline.manifest.service import find_project_file, list_services, load_service


def load_named(target: str | None) -> LoadedAgent:
    """Return the agent that a folder or a service's name stands for; the folder here if None.

    Raises:
        ManifestError: If there is none, or what describes it is wrong.
    """
    folder = Path(target or ".")
    if target is not None and not folder.exists():
        # Not a folder: perhaps a service of the project.
        project = find_project_file(find_project_root(Path.cwd()))
        if project is not None and target in list_services(project):
            return load_service(project, target)
    if folder.is_dir() and not any((folder / name).exists() for name in AGENT_FILES):
        project = find_project_file(folder)
        if project is not None:
            return load_service(project)
    return load_agent(folder)


def values_for(folder: Path, environment: str | None) -> dict[str, str]:
    """Return the values that fill an agent's placeholders.

    What was set where the command runs, and over it what was set with the agent itself.
    """
    roots = dict.fromkeys((find_project_root(Path.cwd()), find_project_root(folder)))
    values: dict[str, str] = {}
    for root in roots:
        values |= Environments(root).values(environment)
    return values


def key_of(agent: str) -> str:
    """Return an agent's name as it stands in the names of variables."""
    return agent.upper().replace("-", "_").replace(" ", "_")
