"""What ``trunkline init`` writes: a template, or the ``agent.yaml`` of code that is there."""

import ast
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from trunkline.manifest.vocabulary import DEFAULT_ENTRY_POINT, KNOWN_PROTOCOLS, name_fault
from trunkline.protocol.errors import InvalidRequestError

TEMPLATES = {
    "echo": "sends back what it is sent, over a WebSocket",
    "chat": "answers in JSON, over a WebSocket and over HTTP, and remembers what was said",
}
_SUFFIX = ".template"
#: A decorator or a class of the host, and the protocol it speaks.
_SIGNS = {
    "ws_handler": "invocations_ws",
    "invoke_handler": "invocations",
    "invocation_handler": "invocations",
    "response_handler": "responses",
    "create_handler": "responses",
    "ResponsesAgentServerHost": "responses",
}
_ENTRY_POINTS = (DEFAULT_ENTRY_POINT, "app.py", "agent.py", "server.py")


class InitError(InvalidRequestError):
    """There is nothing to make an agent of, or something is in the way."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """One file to be written."""

    path: str
    content: bytes


def template_files(template: str, name: str) -> list[NewFile]:
    """Return the files of a template for an agent of that name."""
    folder = files("trunkline.cli") / "templates" / template
    return [_filled(entry, name) for entry in sorted(folder.iterdir(), key=lambda e: e.name)]


def _filled(entry: Traversable, name: str) -> NewFile:
    text = entry.read_text(encoding="utf-8").replace("{{name}}", name)
    path = entry.name.removesuffix(_SUFFIX)
    return NewFile(".agentignore" if path == "agentignore" else path, text.encode())


@dataclass(frozen=True, slots=True)
class FoundCode:
    """What some Python code was found to be."""

    entry_point: str
    protocols: tuple[str, ...]
    has_requirements: bool


def find_code(folder: Path, entry_point: str | None = None) -> FoundCode:
    """Find the file that starts an agent, and the protocols its code speaks.

    Raises:
        InitError: If no file can be told to be the one.
    """
    sources = sorted(path for path in folder.glob("*.py") if not path.name.startswith("test_"))
    named = [path for path in sources if path.name in _ENTRY_POINTS]
    if entry_point is not None:
        chosen = folder / entry_point
        if not chosen.is_file():
            raise InitError(f"there is no file {chosen}: name one of the folder's")
    elif len(sources) == 1:
        chosen = sources[0]
    elif named:
        chosen = min(named, key=lambda path: _ENTRY_POINTS.index(path.name))
    else:
        names = ", ".join(path.name for path in sources) or "no Python file"
        raise InitError(f"{folder} has {names}: say which file starts it with --entry-point")
    found: dict[str, None] = {}
    for source in dict.fromkeys((chosen, *sources)):
        found |= dict.fromkeys(_protocols_of(source))
    has_requirements = (folder / "requirements.txt").is_file()
    name = chosen.relative_to(folder).as_posix()
    return FoundCode(name, tuple(found), has_requirements)


def _protocols_of(source: Path) -> list[str]:
    try:
        tree = ast.parse(source.read_bytes())
    except (SyntaxError, ValueError):
        return []
    words = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    words |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return [protocol for sign, protocol in _SIGNS.items() if sign in words]


def agent_yaml(
    name: str, protocols: tuple[str, ...], entry_point: str | None, image: str | None
) -> str:
    """Return the least an ``agent.yaml`` has to say."""
    lines = ["kind: hosted", f"name: {name}", "protocols:"]
    for protocol in protocols:
        lines += [f"  - protocol: {protocol}", f"    version: {KNOWN_PROTOCOLS[protocol]}"]
    if image is not None:
        lines.append(f"image: {image}")
    elif entry_point is not None:
        lines += ["code_configuration:", f"  entry_point: {entry_point}"]
    return "\n".join([*lines, ""])


def name_for(folder: Path) -> str:
    """Return an agent's name made of a folder's."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", folder.absolute().name).strip("-").lower()[:63].strip("-")
    return name if name and name_fault(name) is None else "my-agent"


def write_all(folder: Path, new: list[NewFile], *, force: bool) -> None:
    """Write files, all or none.

    Raises:
        InitError: If one is there already, and ``force`` isn't given.
    """
    there = [file.path for file in new if (folder / file.path).exists()]
    if there and not force:
        raise InitError(
            f"{folder} has {', '.join(there)} already: take another folder, or --force to replace"
        )
    for file in new:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
