"""Which of Microsoft's tests run against trunkline's host.

They are listed in ``selection.toml``, which also says why the others don't run.
"""

import fnmatch
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FILE: Final = Path(__file__).with_name("selection.toml")


@dataclass(frozen=True)
class Selection:
    """What is chosen of one source distribution's tests.

    Attributes:
        suite: Short name, as in the file.
        distribution: Name of the source distribution.
        version: Version that was read to choose.
        count: How many tests run, as the file says.
        run: Node ids below the folder ``tests``.
        left_out: Patterns of what doesn't run.
    """

    suite: str
    distribution: str
    version: str
    count: int
    run: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def files(self) -> set[str]:
        """Files of which at least one test runs."""
        return {test.partition("::")[0] for test in self.run}

    def unclassified(self, tests: Iterable[str]) -> list[str]:
        """Return those of the tests, or files, that are neither run nor left out."""
        chosen = {*self.run, *self.files}
        return [test for test in tests if test not in chosen and not self._is_left_out(test)]

    def _is_left_out(self, test: str) -> bool:
        # A parameter may look like a pattern, and belongs to no pattern here.
        name = test.partition("[")[0]
        file = name.partition("::")[0]
        return any(
            fnmatch.fnmatchcase(name if "::" in pattern else file, pattern)
            for pattern in self.left_out
        )


def load() -> list[Selection]:
    """Return the selections, one a source distribution."""
    return [
        Selection(
            suite,
            table["distribution"],
            table["version"],
            table["count"],
            tuple(f"{file}::{name}" for file, names in table["run"].items() for name in names),
            tuple(pattern for entry in table["left_out"] for pattern in entry["tests"]),
        )
        for suite, table in tomllib.loads(_FILE.read_text()).items()
    ]
