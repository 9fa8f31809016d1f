"""``trunkline endpoint``: how an agent is reached, and which versions its new sessions get."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from trunkline.cli import options, output
from trunkline.cli.output import Format
from trunkline.cli.projects import load_named
from trunkline.cli.running import run
from trunkline.cli.tables import put_fields
from trunkline.cli.target import Where
from trunkline.client import Agent
from trunkline.protocol.errors import InvalidRequestError

app = options.command_app("Show how an agent is reached, and change it.")


@app.command("show", epilog=options.examples("trunkline endpoint show echo"))
def show_endpoint(
    agent: options.AgentArgument,
    *,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Show an agent's protocols, the versions its new sessions get, and its card."""
    where = Where(endpoint=endpoint, state_dir=state_dir, insecure_http=insecure_http)

    async def work() -> Agent:
        async with where.open() as project:
            return await project.get_agent(agent)

    found = run(work())
    if output_format is Format.JSON:
        document = found.as_dict()
        output.put_json(
            {
                "name": found.name,
                "agent_endpoint": document.get("agent_endpoint"),
                "agent_card": document.get("agent_card"),
            }
        )
    else:
        put_fields(_fields(found))


@app.command(
    "update",
    epilog=options.examples(
        "trunkline endpoint update              (from the agent.yaml or azure.yaml here)",
        "trunkline endpoint update my-voice-agent --force",
    ),
)
def update_endpoint(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[DIR|NAME]",
            help="The agent's folder, or a service of the project's azure.yaml.",
            show_default=False,
        ),
    ] = None,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Don't ask when clients may stop working.")
    ] = False,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    output_format: options.OutputOption = Format.TEXT,
) -> None:
    """Change a deployed agent's endpoint and card to what its file says, without a new version."""
    local = load_named(target)
    changes = {
        name: value
        for name, value in (
            ("agent_endpoint", local.agent_endpoint),
            ("agent_card", local.agent_card),
        )
        if value is not None
    }
    if not changes:
        raise InvalidRequestError(
            f"{local.path} has neither agent_endpoint nor agent_card: there is nothing to change"
        )
    where = Where(endpoint=endpoint, state_dir=state_dir, insecure_http=insecure_http)

    async def work() -> Agent:
        async with where.open() as project:
            before = await project.get_agent(local.name)
            _warn(before, changes, force=force)
            return await project.update_agent(local.name, changes)

    after = run(work())
    if output_format is Format.JSON:
        output.put_json(after.as_dict())
    else:
        output.put(f'Agent "{after.name}" updated.')


def _warn(before: Agent, changes: Mapping[str, Any], *, force: bool) -> None:
    lost = protocols_of(before.agent_endpoint) - protocols_of(changes.get("agent_endpoint"))
    if not lost or not protocols_of(changes.get("agent_endpoint")):
        return
    output.warn(f"clients that use {', '.join(sorted(lost))} will be refused")
    if force:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("say --force to do it without being asked")
    typer.confirm("Go on?", abort=True, err=True)


def protocols_of(endpoint: Mapping[str, Any] | None) -> set[str]:
    """Return the protocols an endpoint names, in either of the contract's forms."""
    if not endpoint:
        return set()
    return {*(endpoint.get("protocol_configuration") or {}), *(endpoint.get("protocols") or ())}


def _fields(agent: Agent) -> list[tuple[str, str]]:
    endpoint = agent.agent_endpoint or {}
    rules = (endpoint.get("version_selector") or {}).get("version_selection_rules") or []
    selector = ", ".join(
        f"{rule.get('agent_version')} {rule.get('traffic_percentage')}%" for rule in rules
    )
    schemes = [str(scheme.get("type")) for scheme in endpoint.get("authorization_schemes") or []]
    latest = agent.latest.protocols if agent.latest else []
    card = agent.as_dict().get("agent_card") or {}
    return [
        ("Agent", agent.name),
        ("Protocols", ", ".join(sorted(protocols_of(endpoint)) or latest) or "-"),
        ("Version Selector", selector or "(default: @latest 100%)"),
        ("Authorization", ", ".join(schemes) or "-"),
        ("Agent Card", str(card.get("description") or "-")),
    ]
