"""What ``trunkline run`` does while the platform runs: deploys, watches, and shows the logs."""

import asyncio
import datetime as dt
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from trunkline.aio.tasks import TaskOwner
from trunkline.cli import output
from trunkline.cli.logformat import LogFormatter
from trunkline.client import BuildFailedError, LogQuery, Project, ServerEvent, Version
from trunkline.manifest.agent import LoadedAgent
from trunkline.manifest.definition import definition_from_agent
from trunkline.manifest.package import package_folder, stamp_folder
from trunkline.protocol.errors import TrunklineError

BUILD_TIMEOUT_S = 900.0
_LOOK_EVERY_S = 0.4
_SHOWN_ID_CHARS = 8
_LOG_LINES = 40

#: What an agent is made of. A log or a recording that grows in its folder is no change to it.
_WATCHED = frozenset({
    ".py", ".pyi", ".yaml", ".yml", ".toml", ".json", ".txt", ".ini", ".cfg", ".md", ".sql",
    ".html", ".css", ".js", ".jinja", ".j2", ".sh",
})  # fmt: skip

Stamp = tuple[tuple[str, int, int], ...]


def is_watched(path: str) -> bool:
    """Tell whether a change to a file deploys the agent again."""
    return PurePosixPath(path).suffix in _WATCHED


class LocalAgent:
    """The agent in a folder, on the local platform."""

    def __init__(
        self,
        project: Project,
        load: Callable[[], LoadedAgent],
        values: Callable[[LoadedAgent], dict[str, str]],
    ) -> None:
        """Describe it.

        Args:
            project: The local platform's project.
            load: Reads the agent's file.
            values: Returns what fills its placeholders.
        """
        self._project = project
        self._load = load
        self._values = values
        self.agent = load()
        self._deployed: Stamp = ()
        self._tasks = TaskOwner()
        self._followed: set[str] = set()
        self._broken: BrokenPipeError | None = None
        self._started_at = dt.datetime.now(dt.UTC)

    async def deploy(self) -> Version:
        """Make a version of what is there now, and wait until new sessions land on it."""
        # Before anything is read: what changes from here on is a change to what is deployed.
        self._deployed = await asyncio.to_thread(self._stamp)
        self.agent = agent = self._load()
        request, unset = definition_from_agent(agent, self._values(agent))
        for name in unset:
            output.warn(f"{name} isn't set and became empty: `trunkline env set {name} VALUE`")
        wire = {key: value for key, value in request.to_wire().items() if key != "name"}
        if agent.code is None:
            version = await self._project.create_version(agent.name, wire)
        else:
            required = [agent.code.entry_point]
            package = await asyncio.to_thread(package_folder, agent.folder, required=required)
            with package:
                version = await self._project.create_version(agent.name, wire, package.file)
        version = await self._project.wait_until_active(version, timeout_s=BUILD_TIMEOUT_S)
        await self._end_older(version)
        return version

    async def redeploy_on_change(self) -> None:
        """Deploy again whenever a file changes, until cancelled. What is wrong is told."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            before = self._deployed
            now = await asyncio.to_thread(self._stamp)
            if now == before:
                continue
            # An editor may be writing yet, or another file may follow.
            while (later := await self._stamp_soon()) != now:
                now = later
            changed = sorted({path for path, *_ in set(now) ^ set(before)})
            output.note(f"{', '.join(changed[:3])} changed: deploying...")
            await self.try_deploy()

    async def try_deploy(self) -> bool:
        """Deploy; tell what is wrong instead of raising it, and tell whether it worked."""
        try:
            version = await self.deploy()
        except BuildFailedError as exc:
            await self._show_build(exc.version)
            output.fail(f"{exc}: it is tried again when a file changes")
            return False
        except TrunklineError as exc:
            output.fail(f"{exc}\nit is tried again when a file changes")
            return False
        output.note(f"version {version.version} of {version.name} runs; new sessions are on it")
        return True

    async def show_logs(self) -> None:
        """Show what every session prints, until cancelled."""
        try:
            while self._broken is None:
                try:
                    async for session in self._project.list_sessions(self.agent.name):
                        sid = session.agent_session_id
                        if sid not in self._followed:
                            self._followed.add(sid)
                            self._tasks.spawn(self._follow(sid), name=f"run:log:{sid}")
                except TrunklineError:
                    # Before the first version there is no agent to ask about.
                    pass
                await asyncio.sleep(_LOOK_EVERY_S)
            raise self._broken
        finally:
            await self._tasks.aclose()

    async def _follow(self, session_id: str) -> None:
        formatter = LogFormatter(
            None, lambda text, colour: output.coloured(text, colour, sys.stdout)
        )
        head = f"[{session_id[:_SHOWN_ID_CHARS]}] "
        stream = self._project.log_stream(
            self.agent.name, session_id, LogQuery(tail=300, follow=True)
        )
        try:
            async for event in stream:
                if self._is_new(event):
                    for line in formatter.format(event).splitlines():
                        output.put(head + line)
        except TrunklineError:
            # The session was deleted, or its version was.
            return
        except BrokenPipeError as exc:
            # Whoever read along has gone; show_logs() ends it all.
            self._broken = exc
        finally:
            self._followed.discard(session_id)

    def _is_new(self, event: ServerEvent) -> bool:
        try:
            record: Any = json.loads(event.data)
            return dt.datetime.fromisoformat(record["timestamp"]) >= self._started_at
        except (ValueError, KeyError, TypeError):
            return True

    async def _end_older(self, newest: Version) -> None:
        """Delete the versions before, and with them the sessions that would stay on them."""
        older = [v async for v in self._project.list_versions(newest.name)]
        for version in older:
            if version.version != newest.version:
                try:
                    await self._project.delete_version(newest.name, version.version, force=True)
                except TrunklineError as exc:
                    output.warn(f"version {version.version} stays: {exc}")

    async def _show_build(self, version: Version) -> None:
        try:
            text = await self._project.get_build_log(version.name, version.version)
        except TrunklineError:
            return
        for line in text.rstrip().splitlines()[-_LOG_LINES:]:
            output.say(line)

    async def _stamp_soon(self) -> Stamp:
        await asyncio.sleep(_LOOK_EVERY_S / 2)
        return await asyncio.to_thread(self._stamp)

    def _stamp(self) -> Stamp:
        return tuple(sorted(self._stamps()))

    def _stamps(self) -> Iterator[tuple[str, int, int]]:
        folder = self.agent.folder
        try:
            yield from (stamp for stamp in stamp_folder(folder) if is_watched(stamp[0]))
        except TrunklineError as exc:
            # What can't be packaged is told once, by the deploy that follows.
            yield (str(exc), 0, 0)
        for name in ("agent.yaml", "agent.yml", "azure.yaml", "azure.yml", ".agentignore"):
            path: Path = folder / name
            if path.is_file():
                stat = path.stat()
                yield (name, stat.st_size, stat.st_mtime_ns)
