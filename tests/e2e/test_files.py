"""A session's files: in before its first turn, out after it, over HTTP and by command."""

import asyncio
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.platform import Platform, ask
from trunkline.client import Project, RefusedError, UnreachableError


@pytest.fixture(scope="module")
def http(platform: Platform, token: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(
        base_url=f"{platform.endpoint}/",
        headers={"Authorization": f"Bearer {token}"},
        params={"api-version": "v1"},
        timeout=30,
        trust_env=False,
    ) as client:
        yield client


@pytest.fixture
def files(http: httpx2.Client, probe: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The files of a session that nobody talked to yet, as a path."""
    # Its id is the test's name.
    sessions = f"agents/{probe}/endpoint/sessions"
    name = re.sub(r"\W", "-", request.node.name)
    made = http.post(sessions, json={"agent_session_id": name})
    assert made.status_code == 201, made.text
    yield f"{sessions}/{name}/files"
    assert http.delete(f"{sessions}/{name}").status_code == 204


def home_of(files: str, http: httpx2.Client, platform: Platform) -> Path:
    """Return where the home is on disk: where a file put there turns up."""
    put(http, files, "marker", files.encode())
    (marker,) = (
        path
        for path in (platform.state_dir / "sessions").glob("*/home/marker")
        if path.read_bytes() == files.encode()
    )
    marker.unlink()
    return marker.parent


def put(http: httpx2.Client, files: str, path: str, content: bytes) -> None:
    done = http.put(f"{files}/content", params={"path": path}, content=content)
    assert done.status_code == 201, done.text
    assert done.json() == {"path": path, "bytes_written": len(content)}


async def test_in_before_the_first_turn_and_out_after_it(
    http: httpx2.Client, files: str, platform: Platform, probe: str, token: str
) -> None:
    put(http, files, "/memory", b"seven")
    put(http, files, "in/a/b.bin", bytes(range(256)) * 5000)
    session = files.split("/")[-2]
    async with platform.connect(probe, session, token=token) as websocket:
        assert await ask(websocket, "recall") == "seven"
        assert await ask(websocket, "remember eight") == "remembered"
    back = http.get(f"{files}/content", params={"path": "memory"})
    assert (back.status_code, back.content) == (200, b"eight")
    assert http.post(f"{files.removesuffix('/files')}:stop").status_code == 204
    back = http.get(f"{files}/content", params={"path": "in/a/b.bin"})
    assert back.content == bytes(range(256)) * 5000
    assert back.headers["content-type"] == "application/octet-stream"
    assert back.headers["x-content-type-options"] == "nosniff"
    assert back.headers["content-disposition"] == "attachment; filename*=UTF-8''b.bin"
    head = http.head(f"{files}/content", params={"path": "in/a/b.bin"})
    assert (head.status_code, head.headers["content-length"], head.content) == (
        200,
        str(256 * 5000),
        b"",
    )
    entry = http.get(f"{files}/stat", params={"path": "in/a/b.bin"}).json()
    assert entry["modified_time"] == int(entry["modified_time"])
    assert entry == entry | {"name": "b.bin", "path": "in/a/b.bin", "size": 256 * 5000,
                             "mode": 0o644, "is_dir": False, "is_directory": False}  # fmt: skip


def test_pages(http: httpx2.Client, files: str, platform: Platform) -> None:
    home = home_of(files, http, platform)
    names = [b"100%", b"a b", b"\xfe", b"\xff", "ä".encode(), b"z"]
    for name in names:
        (home / os.fsdecode(name)).touch()
    seen, query = [], {"limit": "1"}
    while True:
        body = http.get(files, params=query).json()
        seen += [entry["name"] for entry in body["entries"]]
        assert body["has_more"] == ("last_id" in body)
        if not body["has_more"]:
            break
        query["after"] = body["last_id"]
    assert seen == [name.decode(errors="replace") for name in sorted(names)]
    assert [e["name"] for e in http.get(files, params={"order": "desc", "limit": "2"}).json()[
        "entries"]] == ["\ufffd", "\ufffd"]  # fmt: skip
    refused = http.get(files, params={"after": "x" * 1000})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "after"


def test_what_an_agent_left_as_a_trap(
    http: httpx2.Client, files: str, platform: Platform, tmp_path: Path
) -> None:
    home = home_of(files, http, platform)
    (tmp_path / "secret").write_text("secret")
    (home / "out").symlink_to(tmp_path)
    (home / "secret").symlink_to(tmp_path / "secret")
    os.mkfifo(home / "fifo")
    for path in ("out/secret", "secret", "/out/../out/secret"):
        for answer in (
            http.get(f"{files}/content", params={"path": path}),
            http.get(files, params={"path": "out"}),
            http.put(f"{files}/content", params={"path": "out/new"}, content=b"x"),
            http.post(f"{files}/mkdir", json={"path": "out/new"}),
            http.delete(files, params={"path": "out/secret"}),
        ):
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["code"] == "path_outside_home"
            assert answer.json()["error"]["param"] == "path"
    assert http.get(f"{files}/content", params={"path": "fifo"}).status_code == 409
    # What comes encoded is decoded once.
    for path, status, code in (
        ("%2e%2e%2fsecret", 400, "path_outside_home"),
        ("%252e%252e%252fsecret", 404, "file_not_found"),
        ("a%00b", 400, "invalid_request"),
        ("out%2fsecret", 400, "path_outside_home"),
    ):
        url = f"{http.base_url}{files}/content?api-version=v1&path={path}"
        answer = httpx2.get(url, headers=http.headers, trust_env=False)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), path
    assert http.delete(files, params={"path": "/", "recursive": "true"}).status_code == 400
    for path in ("out", "secret", "fifo"):
        assert http.delete(files, params={"path": path, "recursive": "true"}).status_code == 204
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


async def test_a_file_that_changes_while_it_is_sent(
    http: httpx2.Client, files: str, platform: Platform, token: str, probe: str, tmp_path: Path
) -> None:
    """What is added stays out; what is cut off ends the connection, and nothing hangs."""
    home, size = home_of(files, http, platform), 64 * 1024 * 1024
    session = files.split("/")[-2]
    for new_size in (2 * size, 0):
        with (home / "big").open("wb") as file:
            file.truncate(size)
        with http.stream("GET", f"{files}/content", params={"path": "big"}) as answer:
            # It is open, and far from sent: the client hasn't read, and buffers are smaller.
            os.truncate(home / "big", new_size)
            if new_size:
                assert sum(len(chunk) for chunk in answer.iter_bytes()) == size
            else:
                with pytest.raises(httpx2.RemoteProtocolError):
                    answer.read()
    with (home / "big").open("wb") as file:
        file.truncate(size)
    async with Project(platform.endpoint, token) as project:
        remote = project.files(probe, session)

        class Cutting:
            """Cuts the file off at the first bytes of it."""

            def write(self, data: bytes) -> int:
                os.truncate(home / "big", 0)
                return len(data)

        with pytest.raises(UnreachableError):
            await remote.download("big", Cutting())  # type: ignore[arg-type]
    assert "Traceback" not in platform.log()


async def test_callers_that_leave_in_mid_file(
    http: httpx2.Client, files: str, platform: Platform
) -> None:
    home = home_of(files, http, platform)
    with (home / "big").open("wb") as file:
        file.truncate(256 * 1024 * 1024)
    descriptors = Path(f"/proc/{platform.serving_pid}/fd")
    if not descriptors.exists():
        pytest.skip("descriptors of another process can't be seen here")
    for _ in range(20):
        with http.stream("GET", f"{files}/content", params={"path": "big"}) as answer:
            assert answer.status_code == 200
    deadline = asyncio.get_running_loop().time() + 20
    while any("/home/big" in target for target in targets(descriptors)):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


def targets(descriptors: Path) -> list[str]:
    found = []
    for link in descriptors.iterdir():
        try:
            found.append(os.readlink(link))
        except FileNotFoundError:
            continue
    return found


def test_a_tree_that_is_too_deep_goes_with_its_session(
    http: httpx2.Client, files: str, platform: Platform
) -> None:
    home = home_of(files, http, platform)
    made = http.post(f"{files}/mkdir", json={"path": "/".join("a" * 2000)})
    assert made.status_code == 201
    assert http.delete(files, params={"path": "a"}).status_code == 409
    assert http.delete(files, params={"path": "a", "recursive": "true"}).status_code == 204
    assert list(home.iterdir()) == []
    http.post(f"{files}/mkdir", json={"path": "/".join("a" * 2000)})
    assert http.delete(files.removesuffix("/files")).status_code == 204
    assert not home.parent.exists()
    assert list((platform.state_dir / "sessions" / ".trash").iterdir()) == []


def test_an_upload_ends_in_no_other_session(
    http: httpx2.Client, platform: Platform, probe: str
) -> None:
    """It began in Anna's; before it ended, Berta had made one under the same id."""
    session = f"agents/{probe}/endpoint/sessions/shared"
    made = http.post(session.rpartition("/")[0], json={"agent_session_id": "shared"})
    assert made.status_code == 201
    other = {"Authorization": f"Bearer {platform.token('--user', 'berta')}"}
    begun, may_end = threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        yield bytes(1000)
        begun.set()
        may_end.wait()
        yield bytes(1000)

    answers = []
    upload = threading.Thread(
        target=lambda: answers.append(
            http.put(f"{session}/files/content", params={"path": "late"}, content=slow())
        )
    )
    upload.start()
    begun.wait()
    # The upload holds the file of its own by now: its session was found to be Anna's.
    while not any((platform.state_dir / "sessions/.uploads").iterdir()):
        pass
    assert http.delete(session).status_code == 204
    made = http.post(session.rpartition("/")[0], json={"agent_session_id": "shared"}, headers=other)
    assert made.status_code == 201
    may_end.set()
    upload.join()
    assert answers[0].status_code == 404
    assert answers[0].json()["error"]["code"] == "session_not_found"
    assert http.get(f"{session}/files", headers=other).json()["entries"] == []
    assert http.delete(session, headers=other).status_code == 204
    assert list((platform.state_dir / "sessions/.uploads").iterdir()) == []


def test_commands(platform: Platform, probe: str, files: str, tmp_path: Path) -> None:
    session = files.split("/")[-2]

    def run(*arguments: str, stdin: str = "") -> str:
        command, *rest = arguments
        done = platform.run(
            "files", command, probe, *rest, "-s", session, stdin=stdin, cwd=tmp_path
        )
        assert done.code == 0, done.stderr
        return done.stdout + done.stderr

    (tmp_path / "a.txt").write_text("one")
    assert run("upload", "a.txt") == "Uploaded a.txt -> a.txt\n"
    assert run("upload", "a.txt", "-t", "in/b/") == "Uploaded a.txt -> in/b/a.txt\n"
    assert run("upload", "-", "-t", "in/c", stdin="two") == "Uploaded - -> in/c\n"
    (tmp_path / "a.txt").write_text("old")
    assert run("download", "in/b/a.txt") == "Downloaded in/b/a.txt -> a.txt\n"
    assert (tmp_path / "a.txt").read_text() == "one"
    assert run("download", "in/c", "--target-path", "-") == "two"
    assert run("mkdir", "d/e") == "Created d/e\n"
    table = [line.split()[:4] for line in run("ls", "in").splitlines()]
    assert table[0] == ["NAME", "PATH", "TYPE", "SIZE"]
    assert table[1:] == [["b", "in/b", "dir", "-"], ["c", "in/c", "file", "3"]]
    listed = json.loads(run("list", "-o", "json"))
    assert [(entry["name"], entry["is_dir"]) for entry in listed] == [
        ("a.txt", False), ("d", True), ("in", True),
    ]  # fmt: skip
    assert json.loads(run("stat", "in/c", "-o", "json"))["size"] == 3
    assert run("stat", "in/c").splitlines()[1].split()[:4] == ["c", "in/c", "file", "3"]
    assert run("rm", "a.txt") == "Removed a.txt\n"
    assert run("delete", "in", "--recursive") == "Removed in\n"
    left = platform.run("files", "rm", probe, "d", "-s", session)
    assert left.code == 1
    assert "recursive=true" in left.stderr
    missing = platform.run("files", "download", probe, "gone", "-s", session, cwd=tmp_path)
    assert missing.code == 1
    assert "nothing is at gone" in missing.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt"]
    nameless = platform.run("files", "upload", probe, "-", "-s", session)
    assert nameless.code == 2


async def test_the_client(platform: Platform, probe: str, files: str, token: str) -> None:
    async with Project(platform.endpoint, token) as project:
        remote = project.files(probe, files.split("/")[-2])
        assert await remote.upload("a/b c", b"x" * 10) == 10
        assert await remote.read("a/b c") == b"x" * 10
        assert [(file.path, file.is_directory) async for file in remote.list()] == [("a", True)]
        assert (await remote.stat("a/b c")).size == 10
        await remote.mkdir("d")
        with pytest.raises(RefusedError, match="recursive=true") as caught:
            await remote.delete("a")
        assert caught.value.status == 409
        await remote.delete("a", recursive=True)
        assert [file.name async for file in remote.list()] == ["d"]
