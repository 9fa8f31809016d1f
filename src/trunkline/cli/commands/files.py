"""``trunkline files``: the files in a session's home."""

import contextlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeVar

import typer

from trunkline.cli import options, output
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.session import find_session
from trunkline.cli.tables import put_table, time_text
from trunkline.cli.target import Where
from trunkline.cli.target_options import takes_where
from trunkline.cli.writing import written_whole
from trunkline.client import File, SessionFiles

app = options.command_app(
    "Move files into and out of a session's home, whether it runs or not.\n\n"
    "The session is the last one used with the agent from here, else the one used last."
)

_T = TypeVar("_T")
_STDIO = "-"
RemoteArgument = Annotated[
    str, typer.Argument(metavar="PATH", help="The path in the session's home.")
]
TargetOption = Annotated[
    str | None, typer.Option("--target-path", "-t", metavar="PATH", help="Where to put it.")
]


@app.command(
    "upload",
    epilog=options.examples(
        "trunkline files upload echo notes.txt",
        "trunkline files upload echo notes.txt --target-path data/",
    ),
)
@takes_where
def upload_file(
    agent: options.AgentArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file here; - is stdin.")],
    *,
    target_path: TargetOption = None,
    session_id: options.SessionOption = None,
    where: Where,
) -> None:
    """Put a file into the session's home; it is there once all of it has arrived.

    Without --target-path it keeps its name; one that ends with / is a folder.
    """
    target = target_path or ""
    if file == _STDIO and not _name_in(target):
        raise typer.BadParameter("stdin has no name: say where with --target-path")
    target += "" if _name_in(target) else Path(file).name

    with contextlib.ExitStack() as stack:
        source = sys.stdin.buffer if file == _STDIO else stack.enter_context(open(file, "rb"))

        async def work(files: SessionFiles) -> None:
            await files.upload(target, source)

        _with_files(agent, session_id, where, work)
    output.say(f"Uploaded {file} -> {target}")


@app.command(
    "download",
    epilog=options.examples(
        "trunkline files download echo data/notes.txt",
        "trunkline files download echo data/notes.txt -t -",
    ),
)
@takes_where
def download_file(
    agent: options.AgentArgument,
    path: RemoteArgument,
    *,
    target_path: TargetOption = None,
    session_id: options.SessionOption = None,
    where: Where,
) -> None:
    """Fetch a file from the session's home; - as the --target-path is stdout.

    Without --target-path it goes into the current folder under its name. A file that is there
    is replaced once all of the new one has arrived.
    """
    name = PurePosixPath(path).name
    target = Path(target_path or name)
    if target_path != _STDIO and target.is_dir():
        target /= name

    with written_whole(None if target_path == _STDIO else target) as into:

        async def work(files: SessionFiles) -> None:
            await files.download(path, into)

        _with_files(agent, session_id, where, work)
    if target_path != _STDIO:
        output.say(f"Downloaded {path} -> {target}")


@app.command(
    "list",
    epilog=options.examples("trunkline files list echo", "trunkline files ls echo data -o json"),
)
@app.command("ls", hidden=True)
@takes_where
def list_files(
    agent: options.AgentArgument,
    path: Annotated[
        str, typer.Argument(metavar="[PATH]", help="The folder.", show_default=False)
    ] = ".",
    *,
    session_id: options.SessionOption = None,
    where: Where,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """List what is in a folder of the session's home (also: ls)."""

    async def work(files: SessionFiles) -> list[File]:
        return [file async for file in files.list(path)]

    found = _with_files(agent, session_id, where, work)
    if output_format is Format.JSON:
        output.put_json([file.as_dict() for file in found])
    elif not found:
        output.say("nothing is there")
    else:
        _put_files(found)


@app.command("stat", epilog=options.examples("trunkline files stat echo data/notes.txt"))
@takes_where
def stat_file(
    agent: options.AgentArgument,
    path: RemoteArgument,
    *,
    session_id: options.SessionOption = None,
    where: Where,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Show one file or folder."""

    async def work(files: SessionFiles) -> File:
        return await files.stat(path)

    found = _with_files(agent, session_id, where, work)
    if output_format is Format.JSON:
        output.put_json(found.as_dict())
    else:
        _put_files([found])


@app.command("mkdir", epilog=options.examples("trunkline files mkdir echo data/in"))
@takes_where
def make_folder(
    agent: options.AgentArgument,
    path: RemoteArgument,
    *,
    session_id: options.SessionOption = None,
    where: Where,
) -> None:
    """Make a folder and those above it."""

    async def work(files: SessionFiles) -> None:
        await files.mkdir(path)

    _with_files(agent, session_id, where, work)
    output.say(f"Created {path}")


@app.command("delete", epilog=options.examples("trunkline files delete echo data --recursive"))
@app.command("remove", hidden=True)
@app.command("rm", hidden=True)
@takes_where
def delete_file(
    agent: options.AgentArgument,
    path: RemoteArgument,
    *,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Remove a folder with all that is in it.")
    ] = False,
    session_id: options.SessionOption = None,
    where: Where,
) -> None:
    """Remove a file or an empty folder (also: remove, rm)."""

    async def work(files: SessionFiles) -> None:
        await files.delete(path, recursive=recursive)

    _with_files(agent, session_id, where, work)
    output.say(f"Removed {path}")


def _with_files(
    agent: str,
    session_id: str | None,
    where: Where,
    work: Callable[[SessionFiles], Awaitable[_T]],
) -> _T:
    async def whole() -> _T:
        async with where.open() as project:
            sid = session_id or await find_session(project, agent, where.memory())
            if session_id is None:
                output.note(f"session {sid}")
            return await work(project.files(agent, sid))

    return run(whole())


def _name_in(target: str) -> bool:
    return bool(target) and not target.endswith("/")


def _put_files(files: list[File]) -> None:
    put_table(
        ("NAME", "PATH", "TYPE", "SIZE", "LAST MODIFIED"),
        [
            (
                file.name,
                file.path,
                "dir" if file.is_directory else "file",
                "-" if file.is_directory else str(file.size),
                time_text(file.modified_time),
            )
            for file in files
        ],
    )
