"""What can be wrong with an author's files.

::

    TrunklineError
    ├── ManifestError              400  invalid_manifest
    ├── PackageError               400  invalid_agent_folder
    └── InvalidCodePackageError    400  invalid_code_package
"""

from collections.abc import Iterable
from dataclasses import dataclass

from trunkline.protocol.errors import TrunklineError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend in a file a person wrote."""

    file: str
    line: int
    """Counted from 1. 0 when it is the whole file that is wrong, or missing."""
    column: int
    """Counted from 1, in characters. 0 when there is no line."""
    field: str
    """Where in the structure, such as ``protocols[0].version``. Empty for the file itself."""
    message: str
    """What is wrong, and what would be right."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(part for part in (place, self.field, self.message) if part)


class ManifestError(TrunklineError):
    """A file an author wrote can't be used. Holds every problem found, in the file's order."""

    code = "invalid_manifest"
    status = 400

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def of_file(cls, file: object, message: str, *, line: int = 0) -> "ManifestError":
        """Make the error for one problem that belongs to no field."""
        return cls([Problem(str(file), line, 1 if line else 0, "", message)])


class PackageError(TrunklineError):
    """An agent's folder can't be made into a package. The message names the file at fault."""

    code = "invalid_agent_folder"
    status = 400


class InvalidCodePackageError(TrunklineError):
    """A zip with an agent's code is broken or unsafe to extract."""

    code = "invalid_code_package"
    status = 400

    def __init__(self, message: str, *, entry: str | None = None) -> None:
        super().__init__(message)
        self.entry = entry
