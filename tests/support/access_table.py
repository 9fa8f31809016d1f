"""Reads ``access_table.txt``: who gets what answer from every route."""

from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("access_table.txt")
CALLERS = (
    "none", "bad", "expired", "audience", "tenant",
    "reader", "invoker", "deployer", "owner", "other", "admin", "acting", "posing",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    method: str
    path: str
    body: str
    statuses: dict[str, int | None]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def rows() -> list[Row]:
    """Return the table's lines, those of ``R`` for both spellings."""
    found = []
    for line in TABLE.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        left, _, right = line.partition("|")
        words = left.split()
        method, path, *rest = words
        body = rest.pop(0).strip("{}") if rest[0].startswith("{") else ""
        statuses = [*rest, *right.split()]
        assert len(statuses) == len(CALLERS), line
        by_caller = {
            caller: None if status == "-" else int(status)
            for caller, status in zip(CALLERS, statuses, strict=True)
        }
        spellings = (path,)
        if path.startswith("R/"):
            rest_of = path.removeprefix("R/")
            prefix = "A/endpoint/protocols/openai"
            spellings = (f"{prefix}/{rest_of}", f"{prefix}/v1/{rest_of}")
        found += [Row(method, each, body, by_caller) for each in spellings]
    return found
