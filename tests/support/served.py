"""Servers that a user starts beside the platform, each on a port the system picks."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.platform import Platform, clean_environment


@contextmanager
def served(platform: Platform, script: Path, *arguments: str) -> Iterator[str]:
    """Serve a sample's own page by its ``page/serve.py``; yields its address."""
    command = (str(script), "--port", "0", *arguments)
    with _started(platform, *command, ready="running on") as address:
        yield address


@contextmanager
def proxied(platform: Platform) -> Iterator[str]:
    """Run ``trunkline proxy``; yields its address."""
    with _started(platform, "-m", "trunkline", "proxy", ready="ready") as address:
        yield address


@contextmanager
def folder_served(platform: Platform, folder: Path) -> Iterator[str]:
    """Serve files as any web server does; yields its address."""
    command = ("-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder))
    with _started(platform, *command, ready=r"\(") as address:
        yield address


@contextmanager
def _started(platform: Platform, *command: str, ready: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=clean_environment()
        | {"TRUNKLINE_ENDPOINT": platform.endpoint, "TRUNKLINE_HOME": str(platform.state_dir)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = ""
        pattern = ready + r" ?(http://127\.0\.0\.1:\d+)"
        while (match := re.search(pattern, said)) is None:
            line = process.stdout.readline()
            assert line, said
            said += line
        yield match[1]
    finally:
        process.terminate()
        process.communicate()
