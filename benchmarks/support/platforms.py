"""A whole platform for a benchmark, and the agents that are deployed on it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.platform import Platform

_AGENT = """kind: hosted
name: {name}
protocols:
  - protocol: invocations_ws
    version: 1.0.0
{more}"""


@contextmanager
def running(*arguments: str, **settings: str) -> Iterator[Platform]:
    """Run a platform on a state directory of its own, and remove that at the end.

    Args:
        arguments: Those of ``trunkline up``.
        settings: Settings, as environment variables.
    """
    folder = Path(tempfile.mkdtemp(prefix="trunkline-bench-"))
    platform = Platform(folder / "state", *arguments, **settings)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(platform.stop)
        yield platform.start()


def deploy(platform: Platform, name: str, source: str, more: str = "") -> None:
    """Deploy an agent of one file.

    Args:
        platform: Where to.
        name: Its name.
        source: The file.
        more: What its definition has besides, as YAML.
    """
    place = platform.state_dir.parent / name
    place.mkdir()
    (place / "agent.yaml").write_text(_AGENT.format(name=name, more=more))
    (place / "main.py").write_text(source)
    platform.deploy(place)
