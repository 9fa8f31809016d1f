"""Processor and memory quantities, as Kubernetes writes them."""

import re
from decimal import Decimal
from typing import Final

DEFAULT_CPU: Final = "1"
DEFAULT_MEMORY: Final = "2Gi"
MIN_CPU: Final = Decimal("0.25")
MAX_CPU: Final = Decimal(4)
MIN_MEMORY_BYTES: Final = 512 * 1024**2
MAX_MEMORY_BYTES: Final = 8 * 1024**3

_CPU = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(m?)")
_MEMORY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(Ki|Mi|Gi|Ti|k|M|G|T)?")
_UNITS: Final = {
    "": 1,
    "k": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "T": 1000**4,
    "Ki": 1024,
    "Mi": 1024**2,
    "Gi": 1024**3,
    "Ti": 1024**4,
}


def parse_cpu(text: str) -> float:
    """Return how many processors ``text`` asks for: ``"0.5"`` and ``"500m"`` are 0.5.

    Raises:
        ValueError: If ``text`` isn't such a quantity.
    """
    return float(_cpu(text))


def parse_memory_bytes(text: str) -> int:
    """Return how many bytes ``text`` asks for: ``"1Gi"`` is 1073741824.

    Raises:
        ValueError: If ``text`` isn't such a quantity.
    """
    found = _MEMORY.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is not an amount of memory; write such as 512Mi or 2Gi')
    return int(Decimal(found[1]) * _UNITS[found[2] or ""])


def cpu_fault(text: str) -> str | None:
    """Tell what is wrong with a number of processors."""
    try:
        cores = _cpu(text)
    except ValueError as exc:
        return str(exc)
    if MIN_CPU <= cores <= MAX_CPU:
        return None
    return f'"{text}" is out of range; write {MIN_CPU} to {MAX_CPU} processors'


def memory_fault(text: str) -> str | None:
    """Tell what is wrong with an amount of memory."""
    try:
        size = parse_memory_bytes(text)
    except ValueError as exc:
        near = re.fullmatch(r"([0-9.]+) ?([kmgt])i?b?", text, re.IGNORECASE)
        return f"{exc}; did you mean {near[1]}{near[2].upper()}i?" if near else str(exc)
    if MIN_MEMORY_BYTES <= size <= MAX_MEMORY_BYTES:
        return None
    # "2" is two bytes; whoever wrote it meant something else.
    hint = f"; did you mean {text}Gi?" if re.fullmatch(r"[0-9]{1,2}", text) else ""
    return f'"{text}" is out of range; write 512Mi to 8Gi{hint}'


def _cpu(text: str) -> Decimal:
    found = _CPU.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is not a number of processors; write such as 1, 0.5 or 500m')
    cores = Decimal(found[1])
    return cores / 1000 if found[2] else cores
