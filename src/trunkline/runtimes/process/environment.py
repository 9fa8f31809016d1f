"""Makes the Python environment a version runs in, once per set of requirements.

An environment belongs to a key: whatever decides its content. Versions with the same key share
it. What stands in it once it is complete is never changed.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import uv

from trunkline.runtimes.interface import BuildFailedError, BuildLog, Launch, VersionSource
from trunkline.runtimes.process.commands import Tools
from trunkline.runtimes.process.entry_point import parse_entry_point
from trunkline.runtimes.process.interpreter import Interpreter, choose_interpreter
from trunkline.runtimes.process.own_wheel import DISTRIBUTION, OwnWheel, make_own_wheel
from trunkline.runtimes.process.requirements import (
    FOREIGN_HOSTS,
    Requirements,
    read_requirements,
)
from trunkline.runtimes.process.settings import ProcessSettings

BUNDLED = "bundled"
MARKER = "complete.json"
_LAYOUT = 1
_LOCK_POLL_S = 0.1
_CAUSE_INDENT = " " * 4
_MAX_TOLD_CHARS = 600
_BUNDLED_PACKAGES = Path(".python_packages", "lib", "site-packages")


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what an environment holds."""

    interpreter: Interpreter
    requirements: Requirements
    wheel: OwnWheel | None
    """Our agent host, if it is to be found or added."""
    adds_host: bool
    """Whether the host is installed although the requirements don't name it."""
    resolution: str
    code_dir: Path

    @property
    def key(self) -> str:
        """The environment's name."""
        facts = {
            "layout": _LAYOUT,
            "python": [str(self.interpreter), self.interpreter.path],
            "files": {
                name: hashlib.sha256(data).hexdigest()
                for name, data in self.requirements.files.items()
            },
            "host": self.wheel.digest if self.wheel else None,
            "adds_host": self.adds_host,
            "resolution": self.resolution,
            # What is installed from the folder differs from one version to the next.
            "folder": str(self.code_dir) if self.requirements.is_local else None,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    def installs(self) -> list[tuple[str, ...]]:
        """Return what ``uv pip install`` is given, one call after the other."""
        calls: list[tuple[str, ...]] = []
        host = (str(self.wheel.path),) if self.wheel and self.adds_host else ()
        if self.requirements.main is not None:
            theirs: tuple[str, ...] = ("-r", str(self.requirements.main))
            if self.wheel and not self.adds_host:
                theirs += ("--find-links", str(self.wheel.path.parent))
            if not self.requirements.requires_hashes:
                # Both at once, so that one set of versions fits both.
                return [theirs + host]
            calls.append(theirs)
        if host:
            calls.append(host)
        return calls


class EnvironmentBuilder:
    """Builds versions. Any number of builds may run at the same time."""

    def __init__(self, settings: ProcessSettings) -> None:
        self._timeout_s = settings.build_timeout_s
        state_dir = settings.state_dir.absolute()
        self._environments_dir = state_dir / "environments"
        self._wheels_dir = state_dir / "wheels"
        self._tools = Tools(settings.platform_environment)
        self._uv = uv.find_uv_bin()
        self._locks: dict[str, asyncio.Lock] = {}

    async def build(self, source: VersionSource, log: BuildLog) -> Launch:
        """Make the environment, unless it is there, and say how to start the version.

        Cancelling stops the tools that run; the next build of the same environment begins anew.

        Raises:
            BuildFailedError: If it can't be done, or not within ``build_timeout_s``.
        """
        deadline = asyncio.timeout(self._timeout_s)
        try:
            async with deadline:
                return await self._build(replace(source, code_dir=source.code_dir.absolute()), log)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            msg = f"the build took longer than {self._timeout_s:g} s (build_timeout_s)"
            log.write(msg + "\n")
            raise BuildFailedError(msg) from error
        except OSError as error:
            msg = f"the build failed on this machine: {error.strerror or error}"
            log.write(f"{msg}: {error.filename}\n")
            raise BuildFailedError(msg) from error

    async def _build(self, source: VersionSource, log: BuildLog) -> Launch:
        # What costs nothing to find out comes before what takes minutes.
        entry = parse_entry_point(source.entry_point, source.code_dir)
        self._environments_dir.mkdir(parents=True, exist_ok=True)
        interpreter, note = await choose_interpreter(
            source.runtime, uv=self._uv, tools=self._tools, cwd=self._environments_dir
        )
        notes = [note] if note else []
        log.write(f"{note or f'Using {interpreter}'}\n")
        recipe = await asyncio.to_thread(self._recipe, source, interpreter)
        environment = await self._provide(recipe, log)
        launch = Launch(
            command=entry.command(environment),
            working_dir=str(source.code_dir),
            environment=_launch_environment(environment, source),
            notes=tuple(notes),
        )
        await self._compile(environment, source.code_dir, entry.file, log)
        return launch

    def _recipe(self, source: VersionSource, interpreter: Interpreter) -> Recipe:
        is_bundled = source.dependency_resolution == BUNDLED
        requirements = Requirements() if is_bundled else read_requirements(source.code_dir)
        names = requirements.names_for(interpreter.major_minor)
        names_ours = DISTRIBUTION in names
        has_host = (
            names_ours
            or any(FOREIGN_HOSTS.fullmatch(name) for name in names)
            or (is_bundled and _brings_host(source.code_dir))
        )
        needs_wheel = names_ours or not has_host
        return Recipe(
            interpreter=interpreter,
            requirements=requirements,
            wheel=make_own_wheel(self._wheels_dir) if needs_wheel else None,
            adds_host=not has_host,
            resolution=source.dependency_resolution,
            code_dir=source.code_dir,
        )

    async def _provide(self, recipe: Recipe, log: BuildLog) -> Path:
        environment = self._environments_dir / recipe.key
        async with self._locks.setdefault(recipe.key, asyncio.Lock()):
            async with _locked(environment.with_suffix(".lock")):
                if _is_complete(environment):
                    log.write("The environment is there already\n")
                    return environment
                # What a build that was cut short left behind can't be told from what is right.
                await _discard(environment)
                try:
                    await self._install(recipe, environment, log)
                except BaseException:
                    await _discard(environment)
                    raise
        return environment

    async def _install(self, recipe: Recipe, environment: Path, log: BuildLog) -> None:
        # Outside the agent's folder, and with ours as the project's: a uv.toml in the folder
        # isn't obeyed, the operator's own is.
        common = ("--no-progress", "--color", "never", "--no-python-downloads")
        base = (self._uv, "--project", str(self._environments_dir), *common)
        python = str(environment / "bin" / "python")
        await self._run(
            (
                *base,
                "venv",
                "--quiet",
                "--no-project",
                "--python",
                recipe.interpreter.path,
                str(environment),
            ),
            self._environments_dir,
            log,
        )
        # Relative paths in requirements mean the folder they are in.
        cwd = recipe.code_dir if recipe.requirements.is_local else self._environments_dir
        for arguments in recipe.installs():
            pip = ("pip", "install", "--python", python, "--compile-bytecode")
            await self._run((*base, *pip, *arguments), cwd, log)
        marker = {"python": str(recipe.interpreter), "layout": _LAYOUT}
        (environment / MARKER).write_text(json.dumps(marker))

    async def _run(self, command: tuple[str, ...], cwd: Path, log: BuildLog) -> None:
        result = await self._tools.run(command, cwd=cwd, log=log)
        if result.returncode != 0:
            msg = f"the environment couldn't be built: {telling_line(result.lines)}"
            raise BuildFailedError(msg)

    async def _compile(
        self, environment: Path, code_dir: Path, entry: str | None, log: BuildLog
    ) -> None:
        """Compile the folder once, so that no session has to."""
        python = str(environment / "bin" / "python")
        compileall = (python, "-I", "-m", "compileall", "-q")
        result = await self._tools.run((*compileall, str(code_dir)), cwd=code_dir, log=log)
        if result.returncode == 0 or entry is None or not entry.endswith(".py"):
            return
        # Other files may be anything: templates, or meant for another Python.
        checked = await self._tools.run((*compileall, entry), cwd=code_dir, log=None)
        if checked.returncode != 0:
            msg = f"{entry} isn't valid Python: {telling_line(checked.lines)}"
            raise BuildFailedError(msg)


def telling_line(lines: tuple[str, ...]) -> str:
    """Return what says most about a failure: uv's first error with its first cause, as a line."""
    said = [line for line in lines if line.strip(" ^\t")]
    start = next((n for n, line in enumerate(said) if line.startswith("error:")), None)
    if start is None:
        return said[-1].strip() if said else "the tool said nothing"
    told = said[start].removeprefix("error:").strip()
    if said[start + 1 : start + 2] and (cause := said[start + 1].strip()).startswith("cause:"):
        # What belongs to the cause stands below it, further in.
        more = takewhile(lambda line: line.startswith(_CAUSE_INDENT), said[start + 2 :])
        words = [cause.removeprefix("cause:").strip(), *(line.strip() for line in more)]
        told = f"{told}: {' '.join(words)}"
    return told[:_MAX_TOLD_CHARS]


def _launch_environment(environment: Path, source: VersionSource) -> dict[str, str]:
    # PATH here is what goes in front of the platform's own.
    variables = {"VIRTUAL_ENV": str(environment), "PATH": str(environment / "bin")}
    if source.dependency_resolution == BUNDLED:
        folders = [source.code_dir, source.code_dir / _BUNDLED_PACKAGES]
        variables["PYTHONPATH"] = os.pathsep.join(
            str(folder) for folder in folders if folder.is_dir()
        )
    return variables


def _brings_host(code_dir: Path) -> bool:
    return any(
        (folder / host).is_dir()
        for folder in (code_dir, code_dir / _BUNDLED_PACKAGES)
        for host in ("trunkline/agentserver", "azure/ai/agentserver")
    )


def _is_complete(environment: Path) -> bool:
    # The link to an interpreter that was removed from the machine doesn't exist either.
    return (environment / MARKER).exists() and (environment / "bin" / "python").exists()


async def _discard(environment: Path) -> None:
    """Remove what is there. Its place is free at once, even if the wait is cancelled."""
    if (rubbish := _set_aside(environment)) is not None:
        await asyncio.to_thread(shutil.rmtree, rubbish, ignore_errors=True)


def _set_aside(environment: Path) -> Path | None:
    rubbish = environment.with_suffix(f".{secrets.token_hex(4)}")
    try:
        return environment.rename(rubbish)
    except FileNotFoundError:
        return None


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Hold a lock against other processes; it ends with ours, however that ends."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL_S)
        yield
