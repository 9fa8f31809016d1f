"""Builds versions in the background: unpacks the code, has the runtime make it ready.

Each version has a folder of its own: the zip as it was uploaded, the code, the build's log.
"""

import asyncio
import contextlib
import datetime as dt
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from trunkline.aio.tasks import TaskOwner
from trunkline.aio.threads import in_thread
from trunkline.manifest.unpack import unpack_package
from trunkline.protocol.errors import TrunklineError
from trunkline.protocol.ids import AgentName, NodeId, ProjectName, VersionId
from trunkline.runtimes.interface import Runtime, StartStatus, VersionSource
from trunkline.sessions.launches import launch_to_json
from trunkline.store.interface import Store
from trunkline.store.records import VersionRecord

_log = logging.getLogger("trunkline.control")
_AT_ONCE = 2
#: How the names of variables begin that the platform reads.
_READ_HERE = "TRUNKLINE_"
_DEFAULT_ENTRY = ("main.py",)
_CODE = "code.zip"


class BuildLogFile:
    """A build's log, written as it goes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, text: str) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as exc:
            # A full disk must not keep the version from being told that it failed.
            _log.warning("a build's log can't be written: %s", exc)


class VersionBuilds:
    """Where versions lie, and the builds that are under way."""

    def __init__(self, versions_dir: Path, *, store: Store, runtime: Runtime, node: NodeId) -> None:
        self._node = node
        self._versions_dir = versions_dir
        self._store = store
        self._runtime = runtime
        self._tasks = TaskOwner()
        self._running: dict[str, asyncio.Task[None]] = {}
        #: How many versions are on their way from the store to :meth:`start`.
        self._arriving = 0
        self._places = asyncio.Semaphore(_AT_ONCE)

    def folder_of(self, project: ProjectName, agent: AgentName, version: VersionId) -> Path:
        """Return a version's folder."""
        return self._agent_folder(project, agent) / version

    def _agent_folder(self, project: ProjectName, agent: AgentName) -> Path:
        digest = hashlib.sha256(f"{project}\0{agent}".encode()).hexdigest()[:16]
        return self._versions_dir / f"{agent[:32]}-{digest}"

    def upload_path(self, name: str) -> Path:
        """Return where an upload of that name is kept until its version has a number."""
        folder = self._versions_dir / "uploads"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder / name

    @contextlib.contextmanager
    def arrival(self) -> Iterator[None]:
        """Have nobody miss a version meanwhile that is added and not yet given to `start`."""
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1

    async def start(self, record: VersionRecord, upload: Path | None) -> VersionRecord:
        """Take a version's zip and build it in the background; return the version as it is now.

        Without one, the version is an image's: nothing here can run it, and it says so.
        """
        if upload is None:
            return await self._refuse_image(record)
        await asyncio.to_thread(self._take, record, upload)
        self._spawn(record)
        return record

    async def _refuse_image(self, record: VersionRecord) -> VersionRecord:
        finished = await self._store.finish_version(
            record,
            error="it is made from a container image, and this platform has no container "
            "runtime configured; deploy the agent's code instead",
            error_code="ImageError",
        )
        return finished or record

    def _take(self, record: VersionRecord, upload: Path) -> None:
        folder = self.folder_of(record.project, record.agent, record.version)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        upload.replace(folder / _CODE)

    def code_path(self, record: VersionRecord) -> Path | None:
        """Return where a version's zip is, or None if it has none."""
        path = self.folder_of(record.project, record.agent, record.version) / _CODE
        return path if path.exists() else None

    async def remove_version(self, record: VersionRecord) -> None:
        """Remove a version's files; a build under way ends first. Twice is fine."""
        await self._end_builds(f"{_build_name(record)}")
        folder = self.folder_of(record.project, record.agent, record.version)
        await in_thread(_remove, folder)

    async def remove_agent(self, project: ProjectName, agent: AgentName) -> None:
        """Remove the files of all versions of an agent. Twice is fine."""
        await self._end_builds(f"build:{project}/{agent}:")
        await in_thread(_remove, self._agent_folder(project, agent))

    async def _end_builds(self, prefix: str) -> None:
        building = [task for name, task in self._running.items() if name.startswith(prefix)]
        for task in building:
            task.cancel()
        if building:
            await asyncio.wait(building)

    async def give_up(self) -> None:
        """End the builds under way: another process builds those versions."""
        await self._end_builds("")

    async def take_over(self) -> None:
        """Start again the builds that nobody is at any more.

        They are of processes that are no more, or they are this one's, and ended before the
        store could be told.
        """
        for record in await self._store.unfinished_versions():
            if self._is_under_way(record):
                continue
            claimed = await self._store.claim_build(record, self._node)
            if claimed is not None and not self._is_under_way(claimed):
                await self._start_again(claimed)

    def _is_under_way(self, record: VersionRecord) -> bool:
        is_arriving = self._arriving > 0 and record.builder == self._node
        return is_arriving or _build_name(record) in self._running

    async def _start_again(self, record: VersionRecord) -> None:
        if not record.code_sha256:
            await self._refuse_image(record)
        elif self.code_path(record) is not None:
            self._spawn(record)
        else:
            await self._store.finish_version(
                record,
                error="the upload was interrupted; deploy it again",
                error_code="CodeError",
            )

    def start_status(self, record: VersionRecord) -> StartStatus | None:
        """Return how a version's sessions are started; None if they can't be."""
        if record.launch is None:
            return None
        return self._runtime.start_status(record.project, record.agent, record.version)

    def read_log(self, record: VersionRecord) -> str:
        """Return what a version's build has printed so far."""
        path = self._log_path(record)
        return path.read_text("utf-8", errors="replace") if path.exists() else ""

    def _log_path(self, record: VersionRecord) -> Path:
        return self.folder_of(record.project, record.agent, record.version) / "build.log"

    def _spawn(self, record: VersionRecord) -> None:
        name = _build_name(record)
        self._running[name] = task = self._tasks.spawn(self._build(record), name=name)
        task.add_done_callback(lambda _: self._running.pop(name, None))

    async def _build(self, record: VersionRecord) -> None:
        log = BuildLogFile(self._log_path(record))
        name = f"{record.agent} version {record.version}"
        try:
            async with self._places:
                log.write(f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ} building {name}\n")
                launch = await self._runtime.build(await self._source_of(record), log)
        except TrunklineError as error:
            _log.warning("build of %s failed: %s", name, error)
            log.write(f"failed: {error}\n")
            await self._store.finish_version(record, error=str(error), error_code="CodeError")
        except Exception:
            # The version would stay "creating" for ever, and its owner wait for it.
            log.write("failed: something broke on the platform's side\n")
            await self._store.finish_version(
                record,
                error="something broke on the platform's side; its log has the cause",
                error_code="ProvisioningError",
            )
            raise
        else:
            log.write("active\n")
            await self._store.finish_version(record, launch=launch_to_json(launch))

    async def _source_of(self, record: VersionRecord) -> VersionSource:
        folder = self.folder_of(record.project, record.agent, record.version)
        code = folder / "code"
        await asyncio.to_thread(_unpack_afresh, folder / _CODE, code)
        configuration = record.definition.get("code_configuration") or {}
        return VersionSource(
            agent=record.agent,
            version=record.version,
            code_dir=code,
            runtime=configuration.get("runtime"),
            entry_point=tuple(configuration.get("entry_point") or _DEFAULT_ENTRY),
            dependency_resolution=configuration.get("dependency_resolution") or "remote_build",
            environment={
                name: value
                for name, value in (record.definition.get("environment_variables") or {}).items()
                if name.startswith(_READ_HERE) and "${{" not in value
            },
        )

    async def aclose(self) -> None:
        """End the builds under way; the next start takes them up again. Twice is fine."""
        await self._tasks.aclose()


def _build_name(record: VersionRecord) -> str:
    return f"build:{record.project}/{record.agent}:{record.version}"


def _remove(folder: Path) -> None:
    # Moved aside first: its name may be given again while this goes on.
    with contextlib.suppress(FileNotFoundError):
        folder.rename(folder.with_name(f".{folder.name}.{secrets.token_hex(4)}"))
    for path in folder.parent.glob(f".{folder.name}.*"):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)


def _unpack_afresh(archive: Path, target: Path) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    for path in (draft, target):
        if path.exists():
            shutil.rmtree(path)
    draft.mkdir(mode=0o700)
    unpack_package(archive, draft)
    draft.rename(target)
