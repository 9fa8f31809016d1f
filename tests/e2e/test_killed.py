"""A platform killed at any moment keeps what it acknowledged, and leaves nothing running."""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.platform import Platform

AGENT = "hardy"
SOURCE = '''
import pathlib, subprocess, sys
from starlette.responses import Response
from trunkline.agentserver import InvocationAgentServerHost
app = InvocationAgentServerHost()
# A child that leaves the agent's process group outlives the agent unless somebody looks for it.
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)

@app.invoke_handler
async def invoke(request):
    path = pathlib.Path.home() / "said"
    with path.open("a") as file:
        file.write((await request.body()).decode() + "\\n")
    return Response(path.read_text())

app.run()
'''  # fmt: skip
DEFINITION = {
    "definition": {
        "kind": "hosted",
        "cpu": "1",
        "memory": "2Gi",
        "code_configuration": {"entry_point": ["python", "main.py"]},
        "protocol_versions": [{"protocol": "invocations", "version": "2.0.0"}],
    }
}


@dataclass
class Acknowledged:
    """What the platform has said yes to."""

    versions: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    said: dict[str, list[str]] = field(default_factory=dict)
    conversations: dict[str, list[str]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """The sessions that were called after a kill."""
    cards: list[str] = field(default_factory=list)
    """Those that were sent; the last one may not have been acknowledged."""


class Story:
    """A scripted run that goes on, from one platform to the next, until it is told to stop."""

    def __init__(self, platform: Platform, done: Acknowledged, number: int) -> None:
        self._done = done
        self._number = number
        self._platform = platform
        self._http = httpx2.Client(
            base_url=f"{platform.endpoint}/agents/",
            headers={"Authorization": f"Bearer {platform.token()}"},
            params={"api-version": "v1"},
            timeout=60,
            trust_env=False,
            # Below the server's own: a connection must not be used just as it is closed there.
            limits=httpx2.Limits(keepalive_expiry=1),
        )
        self.is_over = threading.Event()
        self.failure: BaseException | None = None

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, *, expect: int, **options: Any) -> httpx2.Response:
        path = f"{AGENT}/{path}" if path else AGENT
        answer = self._http.request(method, path, **options)
        assert answer.status_code == expect, f"{method} {path}: {answer.text}"
        return answer

    def deploy(self, salt: str) -> str:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(zipfile.ZipInfo("main.py"), f"{SOURCE}# {salt}\n")
            archive.writestr(zipfile.ZipInfo("requirements.txt"), "trunkline\n")
        answer = self.call(
            "POST", "versions", expect=200,
            data={"metadata": json.dumps(DEFINITION)},
            files={"code": ("agent.zip", file.getvalue(), "application/octet-stream")},
        )  # fmt: skip
        version: str = answer.json()["version"]
        self._done.versions.add(version)
        return version

    def wait_built(self, version: str) -> None:
        while (found := self.call("GET", f"versions/{version}", expect=200).json())["status"] == (
            "creating"
        ):
            time.sleep(0.05)
        assert found["status"] == "active", found

    def run(self) -> None:
        """Work until the platform goes away, or until told."""
        step = 0
        try:
            while not self.is_over.is_set():
                step += 1
                self.work(f"s{self._number}-{step}")
        except httpx2.TransportError:
            # It was killed; what was under way wasn't acknowledged.
            return
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            self.failure = error

    def work(self, session: str) -> None:
        done = self._done
        sessions = f"endpoint/sessions/{session}"
        self.call("POST", "endpoint/sessions", expect=201, json={"agent_session_id": session})
        done.sessions.add(session)
        content = os.urandom(2000)
        self.call(
            "PUT", f"{sessions}/files/content", expect=201, params={"path": "in/a"}, content=content
        )
        done.files[session, "in/a"] = content
        path = "endpoint/protocols/invocations"
        for word in ("one", "two"):
            self.call("POST", path, expect=200, params={"agent_session_id": session}, content=word)
            done.said.setdefault(session, []).append(word)
        conversation = self.call(
            "POST", "endpoint/protocols/openai/conversations", expect=200, json={}
        ).json()["id"]
        done.conversations[conversation] = []
        for word in ("a", "b"):
            self.call(
                "POST", f"endpoint/protocols/openai/conversations/{conversation}/items",
                expect=200, json={"items": [{"id": word, "role": "user", "content": word}]},
            )  # fmt: skip
            done.conversations[conversation].append(word)
        done.cards.append(session)
        self.call(
            "PATCH", "", expect=200,
            json={"agent_card": {"description": session, "skills": []}},
        )  # fmt: skip
        self.deploy(session)
        self.call("POST", f"{sessions}:stop", expect=204)
        older = min(done.sessions)
        if len(done.sessions) > 3:
            # From the moment it is asked for, either is right.
            done.sessions.discard(older)
            for key in [key for key in done.files if key[0] == older]:
                del done.files[key]
            done.said.pop(older, None)
            self.call("DELETE", f"endpoint/sessions/{older}", expect=204)
            done.deleted.add(older)

    def check(self) -> None:
        """See that everything acknowledged is there, and that each session is usable."""
        done = self._done
        for version in sorted(done.versions):
            self.wait_built(version)
        for session in done.sessions:
            found = self.call("GET", f"endpoint/sessions/{session}", expect=200).json()
            assert found["status"] in ("idle", "failed"), found
        for session in done.deleted:
            self.call("GET", f"endpoint/sessions/{session}", expect=404)
        for (session, path), content in done.files.items():
            answer = self.call(
                "GET", f"endpoint/sessions/{session}/files/content", expect=200,
                params={"path": path},
            )  # fmt: skip
            assert answer.content == content
        # Each is used after the kill that follows it, and one of the older ones again.
        older = sorted(done.sessions & done.used)
        for session in [*sorted(done.sessions - done.used), *older[:1]]:
            words = done.said.get(session, [])
            answer = self.call(
                "POST", "endpoint/protocols/invocations", expect=200,
                params={"agent_session_id": session}, content="still here",
            )  # fmt: skip
            lines = answer.text.split()
            # What was said and not answered may be there as well.
            assert [line for line in lines if line in words][: len(words)] == words
            done.said[session] = lines[:-2]
            done.used.add(session)
        for conversation, words in done.conversations.items():
            items = self.call(
                "GET", f"endpoint/protocols/openai/conversations/{conversation}/items",
                expect=200, params={"order": "asc"},
            ).json()["data"]  # fmt: skip
            assert [item["id"] for item in items][: len(words)] == words
        card = self.call("GET", "", expect=200).json().get("agent_card", {})
        assert not done.cards or card["description"] in done.cards[-2:]


def working_in(state_dir: Path) -> dict[int, bytes]:
    """Return the processes that work in a state directory, and what each was started as."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "cwd").startswith(f"{state_dir}/"):
                found[int(process.name)] = (process / "cmdline").read_bytes()
    return found


def agents_running(platform: Platform) -> list[int]:
    """Return the processes of one platform's agents; others build versions."""
    working = working_in(platform.state_dir)
    return [pid for pid, command in working.items() if command.endswith(b"\0main.py\0")
            and b"compileall" not in command]  # fmt: skip


@pytest.fixture
def platform() -> Iterator[Platform]:
    folder = Path(tempfile.mkdtemp(prefix="trunkline-test-"))
    platform = Platform(folder / "state")
    try:
        yield platform.start()
    finally:
        platform.stop()
        shutil.rmtree(folder)


def survive(platform: Platform, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    done = Acknowledged()
    first = Story(platform, done, 0)
    first.wait_built(first.deploy("first"))
    first.close()
    for number in range(1, kills + 1):
        story = Story(platform, done, number)
        working = threading.Thread(target=story.run)
        working.start()
        working.join(chance.uniform(0.05, 2.5))
        platform.signal(signal.SIGKILL)
        platform.wait()
        working.join(60)
        story.close()
        assert not working.is_alive()
        if story.failure is not None:
            raise AssertionError(f"kill {number} of seed {seed}") from story.failure
        left = working_in(platform.state_dir)
        platform.start()
        assert agents_running(platform) == []
        # Those that work there now are new: a version whose building was cut off is built again.
        assert not left.keys() & working_in(platform.state_dir).keys()
        after = Story(platform, done, number)
        after.check()
        # What is looked for would be found, if it were there.
        assert bool(agents_running(platform)) == bool(done.sessions)
        after.close()
        print(f"kill {number} of {kills}: {len(done.used)} sessions used", flush=True)
    assert "Traceback" not in platform.log(), platform.log()


@pytest.mark.timeout(240)
def test_a_few_kills(platform: Platform) -> None:
    survive(platform, 5, seed=5)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fifty_kills(platform: Platform) -> None:
    survive(platform, 50, seed=50)
