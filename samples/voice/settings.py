"""What can be set from outside, and the environment it is read from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from turns import CHUNK_MS, TurnRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the agent reads from its environment."""

    turn_rules: TurnRules
    memory_file: Path
    """In the session's own home, so that it outlives this process."""
    session_id: str


def read(environment: Mapping[str, str]) -> Settings:
    """Return the settings an environment asks for.

    Raises:
        ValueError: If a variable's value can't be used; the text names the variable.
    """
    default = TurnRules()
    return Settings(
        turn_rules=TurnRules(
            endpoint_silence_ms=_silence_ms(
                environment, "ENDPOINT_SILENCE_MS", default.endpoint_silence_ms
            ),
            whole_silence_ms=_silence_ms(environment, "WHOLE_SILENCE_MS", default.whole_silence_ms),
        ),
        memory_file=Path(environment.get("HOME") or ".") / "conversation.json",
        session_id=environment.get("FOUNDRY_AGENT_SESSION_ID") or "local",
    )


def _silence_ms(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or not CHUNK_MS <= int(text) <= 5_000:
        raise ValueError(f"{name} must be a whole number from {CHUNK_MS} to 5000, not {text!r}")
    return int(text)
