"""The steps that bring a database to the schema this program knows.

They are numbered, only ever added, and numbered alike for every database.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from trunkline.store.errors import SchemaTooNewError


@dataclass(frozen=True, slots=True)
class Migration:
    """One step.

    Attributes:
        number: The schema it leads to.
        sql: Its statements.
    """

    number: int
    sql: str


def load_migrations(package: str) -> list[Migration]:
    """Return the migrations beside a database's own modules, in order."""
    files = (resources.files(package) / "migrations").iterdir()
    found = [
        Migration(int(file.name.split("_")[0]), file.read_text("utf-8"))
        for file in files
        if file.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.number)


def unseen(known: Sequence[Migration], seen: int, *, where: str, instead: str) -> list[Migration]:
    """Return the migrations a database hasn't seen.

    Args:
        known: All there are.
        seen: The last one it has seen.
        where: What has been written to, for the error.
        instead: What one may use instead, for the error.

    Raises:
        SchemaTooNewError: If it has seen more than this program knows.
    """
    newest = known[-1].number
    if seen > newest:
        raise SchemaTooNewError(
            f"{where} has schema {seen}, and this trunkline knows up to {newest}: use the newer "
            f"trunkline that wrote it, or {instead}"
        )
    return [migration for migration in known if migration.number > seen]
