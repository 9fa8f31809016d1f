"""Writing files here that are there whole or not at all."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def written_whole(target: Path | None) -> Iterator[IO[bytes]]:
    """Give a file to write to, which is there at the block's end; stdout for None."""
    if target is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with draft.open("xb") as into:
            yield into
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
