"""What may come next on a command line, for shells that ask while it is typed."""

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any

from typer.main import get_command

from trunkline import config
from trunkline.cli import table
from trunkline.cli.state import SessionMemory

_AGENT = "agent"
_ROOT_OPTIONS = ("--help", "--version", "--debug")

SCRIPTS = {
    "bash": """\
_trunkline() {
    local IFS=$'\\n'
    COMPREPLY=($(trunkline completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _trunkline trunkline
""",
    "zsh": """\
#compdef trunkline
_trunkline() {
    local -a found
    found=("${(@f)$(trunkline completion words -- "${(@)words[2,$CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -a found; else _files; fi
}
compdef _trunkline trunkline
""",
    "fish": """\
complete -c trunkline -a '(trunkline completion words -- \
(commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
""",
}


def candidates(words: Sequence[str]) -> list[str]:
    """Return what the last word may become, which is empty if it isn't begun yet.

    Nothing where a file's name may stand: the shell knows those.
    """
    *before, last = words or [""]
    found = dict.fromkeys(word for word in _all(before, last) if word.startswith(last))
    return sorted(found)


def _all(before: list[str], last: str) -> Iterable[str]:
    before = [word for word in before if word != "--debug"]
    if not before:
        return _ROOT_OPTIONS if last.startswith("-") else table.COMMANDS
    if before[0] not in table.COMMANDS:
        return ()
    command = get_command(table.load_app(before[0]))
    rest = before[1:]
    inner: dict[str, Any] = getattr(command, "commands", {})
    if inner:
        if not rest:
            return (name for name, sub in inner.items() if not sub.hidden)
        if rest[0] not in inner:
            return ()
        command, rest = inner[rest[0]], rest[1:]
    return _of_command(command, rest, last)


def _of_command(command: Any, before: list[str], last: str) -> Iterable[str]:
    options = {
        name: param for param in command.params for name in (*param.opts, *param.secondary_opts)
        if name.startswith("-")
    }  # fmt: skip
    previous = options.get(before[-1]) if before else None
    if previous is not None and not getattr(previous, "is_flag", False):
        return _choices(previous)
    if last.startswith("-"):
        return (name for name in options if name.startswith("--"))
    given = list(_arguments(before, options))
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    if len(given) < len(arguments) and arguments[len(given)].name == _AGENT:
        return SessionMemory(config.default_state_dir()).agents()
    return ()


def _choices(option: Any) -> list[str]:
    kind = option.type_descriptor.annotation
    is_choice = isinstance(kind, type) and issubclass(kind, StrEnum)
    return [member.value for member in kind] if is_choice else []


def _arguments(words: list[str], options: dict[str, Any]) -> Iterator[str]:
    """Yield the words that are neither options nor their values."""
    takes_value = False
    for word in words:
        if takes_value:
            takes_value = False
        elif word in options:
            takes_value = not getattr(options[word], "is_flag", False)
        elif not word.startswith("-"):
            yield word
