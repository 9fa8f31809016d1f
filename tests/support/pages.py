"""What the pages of the documentation say to type."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^`([\w./]+)`[^\n`]*:\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a page.

    Attributes:
        title: Its heading.
        files: The files it shows, by name.
    """

    title: str
    files: dict[str, str]

    def write(self, folder: Path) -> None:
        """Put the files into a folder."""
        for name, text in self.files.items():
            (folder / name).write_text(text)


def sections(page: str) -> list[Section]:
    """Return the sections of a page that show files, in their order."""
    text = (ROOT / page).read_text()
    _, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    found = [Section(part.partition("\n")[0], dict(_BLOCK.findall(part))) for part in parts]
    return [section for section in found if section.files]
