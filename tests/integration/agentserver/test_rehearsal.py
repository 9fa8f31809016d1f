"""A host is started once before there is an agent, and nothing of it is left."""

import asyncio
import logging
import os
import signal
import threading
from pathlib import Path

import pytest

from trunkline.agentserver import _rehearsal, _server
from trunkline.agentserver._logging import log


def traces() -> tuple[object, ...]:
    """Return what a host that was served may leave behind."""
    signals = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    return (
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
        list(log.handlers),
        log.level,
        logging.root.disabled,
        signals,
        dict(os.environ),
    )


def test_a_rehearsal_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = traces()
    _rehearsal.rehearse()
    assert traces() == before
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_cannot_listen_is_no_rehearsal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(_server.AgentServer, "startup", refuse)
    before = traces()
    with pytest.raises((ExceptionGroup, asyncio.TimeoutError)):
        _rehearsal.rehearse()
    assert traces() == before
