"""The words and values a definition may hold, and what to say about the others.

``agent.yaml`` and the JSON definition are checked by the same functions, so both refuse the
same things in the same words. A function called ``*_fault`` returns None for a good value,
and otherwise the end of a sentence for the person who wrote it.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Final

from trunkline.protocol.environment import RESERVED_PREFIXES, is_reserved
from trunkline.protocol.ids import AGENT_NAME_RULE, is_agent_name

KIND: Final = "hosted"

#: The protocols trunkline carries, each with the version meant when none is given.
HOSTED_PROTOCOLS: Final[Mapping[str, str]] = {
    "invocations_ws": "1.0.0",
    "invocations": "2.0.0",
    "responses": "2.0.0",
}
#: Protocols of the contract that trunkline knows and doesn't carry.
OTHER_PROTOCOLS: Final[Mapping[str, str]] = {
    "a2a": "1.0.0",
    "mcp": "1.0.0",
    "activity": "1.0.0",
    "voice": "1.0.0",
    "voice_conversation_engine": "1.0.0",
}
KNOWN_PROTOCOLS: Final[Mapping[str, str]] = {**HOSTED_PROTOCOLS, **OTHER_PROTOCOLS}
LEGACY_PROTOCOLS: Final[Mapping[str, str]] = {"activity_protocol": "activity"}

RUNTIMES: Final = ("python_3_11", "python_3_12", "python_3_13", "python_3_14")
REMOTE_BUILD: Final = "remote_build"
DEPENDENCY_RESOLUTIONS: Final = (REMOTE_BUILD, "bundled")
DEFAULT_ENTRY_POINT: Final = "main.py"

MIN_IDLE_TIMEOUT_SECONDS: Final = 120
MAX_IDLE_TIMEOUT_SECONDS: Final = 14_400

MAX_METADATA_PAIRS: Final = 16
MAX_METADATA_KEY_CHARS: Final = 64
MAX_METADATA_VALUE_CHARS: Final = 512

#: One string handed to a new process may hold 128 KiB on Linux; the name is in it as well.
MAX_VARIABLE_VALUE_BYTES: Final = 64 * 1024

VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROTOCOL_VERSION = re.compile(r"v?[0-9]+(\.[0-9]+){0,2}")
_IMAGE = re.compile(
    r"(localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:[0-9]))(:[0-9]+)?"  # registry
    r"(/[a-z0-9]+([._-]+[a-z0-9]+)*)+"  # repository
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?"  # tag
    r"(@sha256:[0-9a-f]{64})?"
)


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return the one of ``words`` most like ``word``, or None if none is much like it."""
    candidates = {candidate.lower(): candidate for candidate in words}
    found = difflib.get_close_matches(word.lower(), candidates, n=1, cutoff=0.6)
    return candidates[found[0]] if found else None


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return how to go on after naming a wrong word: the nearest right one, or all of them."""
    known = list(words)
    near = nearest(word, known)
    return f'did you mean "{near}"?' if near else f"it may be {', '.join(known)}"


def name_fault(name: str) -> str | None:
    """Tell what is wrong with an agent's name."""
    if is_agent_name(name):
        return None
    fault = f'"{name[:80]}" is not an agent\'s name: it takes {AGENT_NAME_RULE}'
    mended = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:63].rstrip("-")
    return f'{fault}; for example "{mended}"' if mended else fault


def kind_fault(kind: str) -> str | None:
    """Tell what is wrong with a definition's kind."""
    return None if kind == KIND else f'"{kind}" is not a kind trunkline runs; write "{KIND}"'


def protocol_fault(protocol: str) -> str | None:
    """Tell what is wrong with a protocol's name."""
    if protocol in KNOWN_PROTOCOLS or protocol in LEGACY_PROTOCOLS:
        return None
    return f'"{protocol}" is not a protocol; {did_you_mean(protocol, KNOWN_PROTOCOLS)}'


def protocol_version_fault(version: str) -> str | None:
    """Tell what is wrong with a protocol's version."""
    if _PROTOCOL_VERSION.fullmatch(version):
        return None
    return f'"{version}" is not a version; write numbers with dots, such as 1.0.0'


def hosted_fault(protocols: Iterable[str]) -> str | None:
    """Tell whether trunkline carries none of an agent's protocols."""
    named = list(protocols)
    if any(protocol in HOSTED_PROTOCOLS for protocol in named):
        return None
    return (
        f"trunkline doesn't carry {', '.join(named)}; name at least one of "
        f"{', '.join(HOSTED_PROTOCOLS)}"
    )


def runtime_fault(runtime: str) -> str | None:
    """Tell what is wrong with a runtime's name."""
    if runtime in RUNTIMES:
        return None
    if runtime.startswith("dotnet"):
        return f'"{runtime}" can\'t be run: trunkline runs Python agents ({", ".join(RUNTIMES)})'
    # "python3.12", "3.12" and "python_312" mean what they say.
    version = re.fullmatch(r"(?:python)?[-_ ]?3[._]?(1[1-4])", runtime, re.IGNORECASE)
    if version:
        return f'"{runtime}" is not a runtime; did you mean "python_3_{version[1]}"?'
    return f'"{runtime}" is not a runtime; it may be {", ".join(RUNTIMES)}'


def dependency_resolution_fault(word: str) -> str | None:
    """Tell what is wrong with how dependencies are to be had."""
    if word in DEPENDENCY_RESOLUTIONS:
        return None
    wanted = did_you_mean(word, DEPENDENCY_RESOLUTIONS)
    return f'"{word}" is not a way to get dependencies; {wanted}'


def image_fault(image: str) -> str | None:
    """Tell what is wrong with a container image's reference."""
    if _IMAGE.fullmatch(image):
        return None
    return (
        f'"{image}" is not a full image reference; write its registry, repository and tag, '
        "such as registry.example.com/voice:1"
    )


def idle_timeout_fault(seconds: int) -> str | None:
    """Tell what is wrong with an idle timeout."""
    if MIN_IDLE_TIMEOUT_SECONDS <= seconds <= MAX_IDLE_TIMEOUT_SECONDS:
        return None
    return (
        f"{seconds} is out of range; write {MIN_IDLE_TIMEOUT_SECONDS} to "
        f"{MAX_IDLE_TIMEOUT_SECONDS} seconds"
    )


def variable_name_fault(name: str) -> str | None:
    """Tell what is wrong with the name of an agent's environment variable."""
    if fault := key_fault(name):
        return fault
    if is_reserved(name):
        prefixes = " and ".join(f"{prefix}*" for prefix in RESERVED_PREFIXES)
        return f'"{name}" is reserved: the platform sets {prefixes}, PORT and HOME itself'
    return None


def key_fault(name: str) -> str | None:
    """Tell what is wrong with the name of any environment variable, reserved or not."""
    if VARIABLE_NAME.fullmatch(name):
        return None
    fault = f'"{name}" is not a variable\'s name: letters, digits and _, not starting with a digit'
    mended = re.sub(r"[^A-Za-z0-9_]", "_", name).lstrip("0123456789")
    return f'{fault}; for example "{mended}"' if mended.strip("_") else fault


def variable_value_fault(value: str) -> str | None:
    """Tell what is wrong with the value of an environment variable, without quoting it."""
    if "\0" in value:
        return "holds a NUL character, which no environment variable can"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "holds half a surrogate pair, which no text file can"
    if size > MAX_VARIABLE_VALUE_BYTES:
        return f"is {size} bytes; a value may have {MAX_VARIABLE_VALUE_BYTES}"
    return None


def metadata_fault(metadata: Mapping[str, str]) -> str | None:
    """Tell what is wrong with the metadata of a version."""
    if len(metadata) > MAX_METADATA_PAIRS:
        return f"has {len(metadata)} pairs; {MAX_METADATA_PAIRS} are allowed"
    for key, value in metadata.items():
        if not 1 <= len(key) <= MAX_METADATA_KEY_CHARS:
            return (
                f'the key "{key[:20]}..." has {len(key)} characters; '
                f"1 to {MAX_METADATA_KEY_CHARS} are allowed"
            )
        if len(value) > MAX_METADATA_VALUE_CHARS:
            return (
                f'the value of "{key}" has {len(value)} characters; '
                f"{MAX_METADATA_VALUE_CHARS} are allowed"
            )
    return None
