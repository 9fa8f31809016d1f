"""``trunkline list`` and ``trunkline show``: the agents of a project."""

from typing import Any

from trunkline.cli import options, output
from trunkline.cli.output import Format
from trunkline.cli.running import run
from trunkline.cli.tables import protocols_text, put_fields, put_table, time_text
from trunkline.cli.target import open_project
from trunkline.client import Agent, Endpoint, Version, VersionStart

list_app = options.command_app()
show_app = options.command_app()


@list_app.command(
    epilog=options.examples("trunkline list", "trunkline list --output json | jq -r '.[].name'")
)
def list_agents(
    *,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """List the agents: latest version, its status and protocols, how many sessions run."""

    async def work() -> list[Agent]:
        async with open_project(endpoint, state_dir, insecure_http=insecure_http) as project:
            return [agent async for agent in project.list_agents()]

    agents = run(work())
    if output_format is Format.JSON:
        output.put_json([agent.as_dict() for agent in agents])
    elif not agents:
        output.say("no agents yet: deploy one with `trunkline deploy DIR`")
    else:
        put_table(("NAME", "VERSION", "STATUS", "PROTOCOLS", "RUNNING"), map(_row, agents))


def _row(agent: Agent) -> tuple[str, ...]:
    latest = agent.latest
    status = (latest.state if latest else "") or "-"
    if agent.state != "enabled":
        status = f"{status} ({agent.state})"
    running = agent.running_sessions
    return (
        agent.name,
        latest.version if latest else "-",
        status,
        protocols_text(latest),
        "-" if running is None else str(running),
    )


@show_app.command(
    epilog=options.examples(
        "trunkline show echo", "trunkline show echo -o json | jq -r .agent_endpoints.invocations_ws"
    )
)
def show_agent(
    agent: options.AgentArgument,
    *,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Show an agent's latest version and its endpoints."""

    async def work() -> tuple[Endpoint, Agent]:
        async with open_project(endpoint, state_dir, insecure_http=insecure_http) as project:
            return project.endpoint, await project.get_agent(agent)

    where, found = run(work())
    if found.latest is None:
        output.say(f"{agent} has no version yet: `trunkline deploy` makes one")
        return
    if output_format is Format.JSON:
        output.put_json(version_document(where, found.latest))
    else:
        put_fields(_fields(where, found, found.latest))


def agent_endpoints(endpoint: Endpoint, version: Version) -> dict[str, str]:
    """Return the addresses a version is talked to at, by protocol."""
    urls = {}
    for protocol in version.protocols:
        if protocol == "invocations_ws":
            urls[protocol] = endpoint.websocket_url(version.name)
        elif protocol == "invocations":
            urls[protocol] = f"{endpoint.protocol_url(version.name, protocol)}?api-version=v1"
    return urls


def version_document(endpoint: Endpoint, version: Version) -> dict[str, Any]:
    """Return what ``--output json`` prints of a version."""
    document = {**version.as_dict(), "agent_endpoints": agent_endpoints(endpoint, version)}
    step = _next_step(version)
    return {**document, "next_step": step} if step else document


def _next_step(version: Version) -> str:
    match version.state:
        case "active":
            return ""
        case "creating":
            return "wait until it is active"
        case _:
            return "mend what the error names, and run `trunkline deploy` again"


def _start_text(start: VersionStart) -> str:
    ready = start.ready
    text = _mode_text(start)
    return f"{text}; {ready.kept} of {ready.wanted} kept ready" if ready.most else text


def _mode_text(start: VersionStart) -> str:
    if start.mode == "zygote":
        return f"from a zygote with {len(start.preloaded)} modules preloaded"
    return f"as a program: {start.reason}" if start.reason else "as a program"


def _fields(endpoint: Endpoint, agent: Agent, version: Version) -> list[tuple[str, str]]:
    fields = [
        ("Name", agent.name),
        ("State", agent.state),
        ("Version", version.version),
        ("Status", version.state or "-"),
        ("Protocols", protocols_text(version)),
        ("Created At", time_text(version.created_at)),
    ]
    if version.description:
        fields.append(("Description", version.description))
    if version.error is not None:
        fields.append(("Error", f"{version.error.code}: {version.error.message}"))
    fields += [("Note", text) for text in version.notes]
    if version.start is not None:
        fields.append(("Start", _start_text(version.start)))
        fields += [
            (f"Not Preloaded ({each.module})", each.reason) for each in version.start.left_out
        ]
    fields += [(f"Metadata[{key}]", str(value)) for key, value in (version.metadata or {}).items()]
    fields += [
        (f"Endpoint ({name})", url) for name, url in agent_endpoints(endpoint, version).items()
    ]
    step = _next_step(version)
    return [*fields, ("Next Step", step)] if step else fields
