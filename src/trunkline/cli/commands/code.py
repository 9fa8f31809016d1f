"""``trunkline code``: the code of a version, back from the platform."""

import tempfile
from pathlib import Path
from typing import IO, Annotated

import typer

from trunkline.cli import options, output
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.target import Where
from trunkline.cli.writing import written_whole
from trunkline.client import DownloadedCode
from trunkline.manifest.unpack import unpack_package
from trunkline.protocol.errors import InvalidRequestError

app = options.command_app("Fetch the code of a version as it was uploaded.")


@app.callback()
def code() -> None:
    """Fetch the code of a version as it was uploaded."""


@app.command(
    "download",
    epilog=options.examples(
        "trunkline code download echo",
        "trunkline code download echo --version 2 --dest before",
        "trunkline code download echo --zip",
    ),
)
def download_code(  # noqa: PLR0913 - one parameter per option
    agent: options.AgentArgument,
    *,
    version: Annotated[
        str | None,
        typer.Option("--version", "-v", metavar="V", help="Which version. Else the newest."),
    ] = None,
    dest: Annotated[
        Path | None,
        typer.Option(
            "--dest", "-d", metavar="DIR", help="An empty folder, or one to be made. Else AGENT-V."
        ),
    ] = None,
    as_zip: Annotated[
        bool, typer.Option("--zip", help="Keep the zip AGENT-V.zip instead, in the folder.")
    ] = False,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Fetch the code a version was made of, byte for byte: its SHA-256 is checked."""
    where = Where(endpoint=endpoint, state_dir=state_dir, insecure_http=insecure_http)
    if not as_zip and dest is not None:
        _check_empty(dest)

    async def fetch(into: IO[bytes]) -> DownloadedCode:
        async with where.open() as project:
            return await project.download_code(agent, into, version=version)

    with tempfile.TemporaryFile() as file:
        fetched = run(fetch(file))
        name = f"{agent}-{fetched.version or version or 'latest'}"
        file.seek(0)
        if as_zip:
            target = (dest or Path()) / f"{name}.zip"
            target.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(target) as into:
                into.write(file.read())
        else:
            target = dest or Path(name)
            _check_empty(target)
            unpack_package(file, target)
    if output_format is Format.JSON:
        output.put_json(
            {
                "agent": agent,
                "version": fetched.version,
                "path": str(target),
                "sha256": fetched.sha256,
                "size": fetched.size,
            }
        )
    else:
        output.put(f'Downloaded agent "{agent}" (version {fetched.version}) -> {target}')


def _check_empty(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise InvalidRequestError(f"{folder} isn't empty: name another folder with --dest")
    if folder.exists() and not folder.is_dir():
        raise InvalidRequestError(f"{folder} is no folder: name another with --dest")
