import csv
import io
import zipfile
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from trunkline.runtimes.interface import BuildFailedError
from trunkline.runtimes.process import own_wheel
from trunkline.runtimes.process.own_wheel import make_own_wheel


def test_wheel_holds_the_package_and_says_what_it_needs(tmp_path: Path) -> None:
    wheel = make_own_wheel(tmp_path)
    version = distribution("trunkline").version
    assert wheel.path.name == f"trunkline-{version}-py3-none-any.whl"
    assert wheel.path.parent == tmp_path / wheel.digest
    with zipfile.ZipFile(wheel.path) as archive:
        names = archive.namelist()
        metadata = Parser().parsestr(
            archive.read(f"trunkline-{version}.dist-info/METADATA").decode()
        )
        record = archive.read(f"trunkline-{version}.dist-info/RECORD").decode()
    assert "trunkline/agentserver/__init__.py" in names
    assert "trunkline/py.typed" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pth")]
    # An agent's Python may be another than the platform's.
    assert not [name for name in names if name.endswith((".so", ".c"))]
    assert metadata["Name"] == "trunkline"
    assert any(line.startswith("starlette") for line in metadata.get_all("Requires-Dist", []))
    assert [row[0] for row in csv.reader(io.StringIO(record))] == names


def test_same_files_make_the_same_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [("trunkline/b.py", b"b"), ("trunkline/__init__.py", b"x")]
    monkeypatch.setattr(own_wheel, "_package_files", lambda: files)
    first = make_own_wheel(tmp_path / "a")
    files.reverse()
    second = make_own_wheel(tmp_path / "b")
    assert first.digest == second.digest
    assert first.path.read_bytes() == second.path.read_bytes()


def test_wheel_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_wheel, "_package_files", lambda: [("trunkline/__init__.py", b"x")])
    wheel = make_own_wheel(tmp_path)
    made_at = wheel.path.stat().st_mtime_ns
    assert make_own_wheel(tmp_path) == wheel
    assert wheel.path.stat().st_mtime_ns == made_at
    assert list(wheel.path.parent.iterdir()) == [wheel.path]
    monkeypatch.setattr(own_wheel, "_package_files", lambda: [("trunkline/__init__.py", b"y")])
    assert make_own_wheel(tmp_path).digest != wheel.digest


def test_trunkline_that_is_not_installed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: str) -> None:
        raise PackageNotFoundError

    monkeypatch.setattr(own_wheel.importlib.metadata, "distribution", missing)
    with pytest.raises(BuildFailedError, match="isn't installed"):
        make_own_wheel(tmp_path)
