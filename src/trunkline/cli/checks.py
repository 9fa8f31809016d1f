"""What ``trunkline doctor`` looks at: this machine, this project, and the platform."""

import os
import platform
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from trunkline import config
from trunkline.cli.failures import advise
from trunkline.cli.projects import load_named, values_for
from trunkline.cli.target import Where
from trunkline.client import Project, RefusedError, Version
from trunkline.config import SettingsError
from trunkline.manifest.agent import LoadedAgent
from trunkline.manifest.definition import definition_from_agent
from trunkline.manifest.env_files import find_project_root
from trunkline.platform.doctor import check_descriptors, check_relay, check_sandbox
from trunkline.protocol.errors import TrunklineError

_RAISE = "`ulimit -n` as root, LimitNOFILE= of a service, --ulimit nofile= of a container"
#: One agent with its environment takes a few hundred megabytes.
_ENOUGH_FREE_BYTES = 512 * 1024**2
_PROJECT_FILES = ("agent.yaml", "agent.yml", "azure.yaml", "azure.yml")


class Status(StrEnum):
    """What became of a check."""

    PASS = "pass"  # noqa: S105 - a word, not a secret
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    id: str
    status: Status
    message: str
    advice: str = ""


async def local_checks(target: str | None, where: Where) -> AsyncIterator[Check]:
    """Look at this machine and this project; nothing is sent."""
    yield Check("local.python", Status.INFO, f"Python {platform.python_version()}")
    yield _relay()
    async for check in _sandbox(config.environment()):
        yield check
    yield _state_dir(where.state_dir or config.default_state_dir())
    for check in _project(target):
        yield check


def _relay() -> Check:
    found = check_relay()
    if found.is_ok:
        return Check("local.relay", Status.PASS, found.text)
    advice = "on Linux, with a C compiler and Python's headers, install trunkline again from source"
    return Check("local.relay", Status.WARN, found.text, advice)


async def _sandbox(env: Mapping[str, str]) -> AsyncIterator[Check]:
    try:
        found = await check_sandbox(env)
    except SettingsError as exc:
        yield Check("local.settings", Status.FAIL, str(exc), "mend the variable, or remove it")
        return
    yield Check("local.settings", Status.PASS, "the TRUNKLINE_* variables are settings")
    descriptors = check_descriptors(env)
    yield Check(
        "local.descriptors",
        Status.PASS if descriptors.is_ok else Status.WARN,
        descriptors.text,
        "" if descriptors.is_ok else _RAISE,
    )
    for each in found:
        name = each.name.replace(" ", ".")
        if each.is_ok:
            yield Check(f"local.{name}", Status.PASS, each.text)
        else:
            advice = "docs/reference/sandbox.md says what each protection needs"
            status = Status.FAIL if each.is_needed else Status.WARN
            yield Check(f"local.{name}", status, each.text, advice)


def _state_dir(state_dir: Path) -> Check:
    place = state_dir
    while not place.exists() and place != place.parent:
        place = place.parent
    if place.is_dir() and os.access(place, os.W_OK):
        free = shutil.disk_usage(place).free
        said = f"{state_dir} can be written, and {free / 1024**2:,.0f} MiB are free there"
        if free >= _ENOUGH_FREE_BYTES:
            return Check("local.state-dir", Status.PASS, said)
        advice = "free some space: the store, agents' code, homes and logs are kept there"
        return Check("local.state-dir", Status.WARN, said, advice)
    return Check(
        "local.state-dir",
        Status.FAIL,
        f"{state_dir} can't be written",
        "name another with --state-dir or TRUNKLINE_HOME",
    )


def find_agent(target: str | None) -> LoadedAgent | None:
    """Return the agent that is meant; None where there is none to be meant.

    Raises:
        TrunklineError: If what describes it is wrong.
    """
    root = find_project_root(Path.cwd())
    if target is None and not any((root / name).is_file() for name in _PROJECT_FILES):
        return None
    if target is None and not any((Path.cwd() / name).is_file() for name in _PROJECT_FILES):
        return load_named(str(root))
    return load_named(target)


def _project(target: str | None) -> Iterator[Check]:
    try:
        agent = find_agent(target)
    except TrunklineError as exc:
        yield Check("local.agent-file", Status.FAIL, str(exc), "mend what it names")
        yield Check("local.values", Status.SKIP, "the agent's file has to be mended first")
        return
    if agent is None:
        yield Check("local.agent-file", Status.SKIP, "no agent.yaml or azure.yaml here")
        yield Check("local.values", Status.SKIP, "no agent whose values could be looked at")
        return
    yield Check("local.agent-file", Status.PASS, f"{agent.path} describes {agent.name}")
    try:
        _, unset = definition_from_agent(agent, values_for(agent.folder, None))
    except TrunklineError as exc:
        yield Check("local.values", Status.FAIL, str(exc), "`trunkline env set` changes a value")
        return
    if unset:
        names = ", ".join(unset)
        advice = f"trunkline env set {unset[0]} VALUE"
        yield Check("local.values", Status.WARN, f"without a value: {names}", advice)
    else:
        yield Check("local.values", Status.PASS, "every ${VAR} has a value")


async def remote_checks(target: str | None, where: Where) -> AsyncIterator[Check]:
    """Look at the platform that commands would talk to, as whom they would."""
    try:
        project = where.open()
    except TrunklineError as exc:
        yield Check("remote.endpoint", Status.FAIL, str(exc), advise(exc))
        return
    async with project:
        reached = await _reach(project)
        yield reached
        if reached.status is not Status.PASS:
            yield Check("remote.agent-status", Status.SKIP, "the platform has to be reached first")
            return
        yield await _agent_status(project, target)


async def _reach(project: Project) -> Check:
    name = "remote.endpoint"
    try:
        async for _ in project.list_agents():
            break
    except RefusedError as exc:
        return Check(name, Status.FAIL, f"{project.endpoint.url}: {exc}", _advice_of(exc))
    except TrunklineError as exc:
        return Check(name, Status.FAIL, str(exc), advise(exc))
    return Check(name, Status.PASS, f"{project.endpoint.url} answers, and knows who is calling")


def _advice_of(error: RefusedError) -> str:
    match error.status:
        case 403:
            return "ask whoever runs the platform for a role in this project"
        case 404:
            return "the project isn't there: look at the end of --endpoint"
        case status if status >= 500:
            return "the platform is there and unwell: its log says why"
        case _:
            return advise(error)


async def _agent_status(project: Project, target: str | None) -> Check:
    name = "remote.agent-status"
    try:
        agent = find_agent(target)
    except TrunklineError:
        return Check(name, Status.SKIP, "the agent's file has to be mended first")
    if agent is None:
        return Check(name, Status.SKIP, "no agent here whose version could be looked at")
    try:
        latest = (await project.get_agent(agent.name)).latest
    except RefusedError as exc:
        if exc.status != 404:
            return Check(name, Status.FAIL, str(exc), _advice_of(exc))
        latest = None
    if latest is None:
        return Check(name, Status.INFO, f"{agent.name} isn't deployed yet")
    return _version_status(name, latest)


def _version_status(name: str, version: Version) -> Check:
    said = f"version {version.version} of {version.name} is {version.state or 'unknown'}"
    if version.state == "active":
        return Check(name, Status.PASS, said)
    if version.is_building:
        return Check(name, Status.WARN, said, "wait, and look again")
    return Check(name, Status.FAIL, said, f"`trunkline show {version.name}` shows why")
