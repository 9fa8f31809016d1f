"""``trunkline run``: an agent here, behind the gateway it would have deployed."""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Annotated, Any

import typer

from trunkline.aio.tasks import TaskOwner
from trunkline.cli import faults, options, output
from trunkline.cli.exits import ExitCode
from trunkline.cli.faults import Faults, FaultyNetwork
from trunkline.cli.identity import local_token
from trunkline.cli.local_platform import LocalPlatform
from trunkline.cli.local_run import LocalAgent
from trunkline.cli.projects import load_named, values_for
from trunkline.cli.running import run as run_work
from trunkline.client import Endpoint, Project
from trunkline.manifest.env_files import find_project_root

app = options.command_app()

DEFAULT_PORT = 8088


@app.command(
    epilog=options.examples(
        "trunkline run",
        "trunkline connect my-agent --endpoint local      (in another terminal)",
        "trunkline run --fault 1001-after=60s",
        "trunkline run --fault drop=30s,stall=2s,slow-reader",
    )
)
def run(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[DIR|NAME]",
            help="The agent's folder, or a service of the project's azure.yaml.",
            show_default=False,
        ),
    ] = None,
    *,
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65535, help="The port; 0 takes a free one.")
    ] = DEFAULT_PORT,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    environment: Annotated[
        str | None,
        typer.Option(
            "--environment", "-e", metavar="NAME", help="The values to fill in. Else the selected."
        ),
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload/--no-reload", help="Deploy again when a file changes.")
    ] = True,
    fault: Annotated[
        str, typer.Option("--fault", metavar="FAULTS", help=f"What goes wrong: {faults.HELP}.")
    ] = "",
) -> None:
    """Run an agent here as it would run deployed: same gateway, limits, sessions, close codes.

    It runs until Ctrl-C, is deployed again when a file changes, and shows what its sessions
    print. `--endpoint local` on other commands means it, from within the project.
    """
    wrong = Faults.parse(fault)
    agent = load_named(target)
    root = find_project_root(agent.folder)

    async def work() -> None:
        async with AsyncExitStack() as stack:
            inner_port = 0 if wrong.needs_proxy else port
            platform = LocalPlatform(root, host=host, port=inner_port, settings=wrong.settings)
            stack.push_async_callback(platform.aclose)
            output.note("starting the local platform...")
            await platform.start()
            base = platform.base
            if wrong.needs_proxy:
                base = await _put_between(stack, wrong, platform.base, host, port)
            endpoint = platform.announce(base)
            # Around the faults: they are the clients', not this command's.
            own = Endpoint.parse(platform.base)
            project = Project(own, lambda: local_token(platform.state_dir))
            await stack.enter_async_context(project)
            here = LocalAgent(
                project,
                lambda: load_named(target),
                lambda loaded: values_for(loaded.folder, environment),
            )
            await _hold(platform, here, endpoint, wrong, reload=reload)

    run_work(_until_told(work()))


async def _put_between(
    stack: AsyncExitStack, wrong: Faults, base: str, host: str, port: int
) -> str:
    inner = Endpoint.parse(base)
    network = FaultyNetwork(wrong, inner.host, inner.port)
    stack.push_async_callback(network.aclose)
    bound = await network.listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{bound}"


async def _hold(
    platform: LocalPlatform, here: LocalAgent, endpoint: Endpoint, wrong: Faults, *, reload: bool
) -> None:
    name = here.agent.name
    output.note(f"deploying {name} from {here.agent.folder.resolve()}...")
    is_up = await here.try_deploy()
    if not is_up and not reload:
        raise typer.Exit(ExitCode.FAILED)
    if is_up:
        output.put(f"ready {endpoint.websocket_url(name)}")
    for line in wrong.describe():
        output.note(f"fault: {line}")
    output.note(f"in another terminal: trunkline connect {name} --endpoint local")
    output.note("Ctrl-C stops it")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(platform.wait(), name="run:platform")
        tasks.create_task(here.show_logs(), name="run:logs")
        if reload:
            tasks.create_task(here.redeploy_on_change(), name="run:reload")


async def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run until a signal comes, which is how it is meant to end."""
    loop = asyncio.get_running_loop()
    owner = TaskOwner()
    task = owner.spawn(work, name="run", is_awaited=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        output.note("stopped")
    except BaseExceptionGroup as group:
        # The group is how the tasks end each other; what matters is what ended the first.
        raise group.exceptions[0] from None
