"""Which command is where. The one place that imports late: a command loads what it needs only.

``trunkline --help`` and a mistyped command answer without importing any of them.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: the module in ``cli.commands`` whose ``app`` it is, and a line of help."""

    module: str
    summary: str
    app: str = "app"


COMMANDS = {
    "init": Entry("init", "Make an agent's folder."),
    "run": Entry("run", "Run an agent here, again at each change."),
    "up": Entry("up", "Start the whole platform in one process."),
    "gateway": Entry("gateway", "Replace the running platform without dropping a call."),
    "deploy": Entry("deploy", "Deploy the agent in a folder."),
    "connect": Entry("connect", "Talk to an agent over its WebSocket."),
    "record": Entry("connect", "Talk to an agent, and write every frame down.", "record_app"),
    "replay": Entry("replay", "Play a recording to an agent, and show what differs."),
    "load": Entry("load", "Play a recording in many sessions at once."),
    "invoke": Entry("invoke", "Call an agent once over HTTP."),
    "monitor": Entry("monitor", "Show what an agent's session printed."),
    "why": Entry("why", "Say how a session's last connections ended, and why."),
    "list": Entry("agents", "List the agents.", "list_app"),
    "show": Entry("agents", "Show one agent.", "show_app"),
    "endpoint": Entry("endpoint", "Show how an agent is reached, and change it."),
    "delete": Entry("delete", "Delete an agent, or one version of it."),
    "code": Entry("code", "Fetch the code of a version."),
    "sessions": Entry("sessions", "Make, list, show, stop and delete an agent's sessions."),
    "files": Entry("files", "Move files into and out of a session's home."),
    "env": Entry("env", "Keep the values that fill an agent.yaml."),
    "proxy": Entry("proxy", "Pass requests on from this machine, with your token."),
    "secret": Entry("secret", "Keep what a project's agents need and nobody should see."),
    "keys": Entry("keys", "Make, list and revoke API keys for machines."),
    "revoke": Entry("revoke", "Make worthless what somebody was issued so far."),
    "audit": Entry("audit", "Show who did what."),
    "console": Entry("console", "Print a link that opens the console."),
    "config": Entry("config", "Check and show the settings of a platform."),
    "doctor": Entry("doctor", "Say what this machine and project lack."),
    "token": Entry("token", "Print a token for the platform on this machine."),
    "completion": Entry("completion", "Print the completion script of a shell."),
}


def load_app(name: str) -> Any:
    """Import one command and return its Typer application."""
    entry = COMMANDS[name]
    module = importlib.import_module(f"trunkline.cli.commands.{entry.module}")
    return getattr(module, entry.app)


def make_token(
    state_dir: Path | None, user: str | None, lifetime_s: int, roles: list[str] | None
) -> str:
    """Return a token of the platform on this machine, which needs the cryptography."""
    module = importlib.import_module("trunkline.auth.local")
    return str(module.local_token(state_dir, user, lifetime_s, roles))


def load_terminal() -> Any:
    """Return what draws on terminals, which scripts never pay for."""
    return importlib.import_module("trunkline.cli.terminal")


def describe_failure(error: Exception) -> tuple[str, int]:
    """Return the line and the exit code for an error that ended a command."""
    module = importlib.import_module("trunkline.cli.failures")
    line, code = module.describe(error)
    return str(line), int(code)
