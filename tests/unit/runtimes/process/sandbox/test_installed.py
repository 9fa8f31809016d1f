"""What a program reads of what is installed, where that was looked up once before."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from trunkline.runtimes.process.sandbox.inside import installed

#: What a zygote does, with a package that reads entry points as OpenTelemetry's does.
BEFORE = """
    import email, importlib.metadata, importlib.util, json, os, sys, types
    sys.path.append(sys.argv[2])

    def described():
        return {
            one.metadata["Name"]: [
                one.version, one.requires, one.metadata.json, sorted(map(repr, one.entry_points)),
                [type(one.metadata).__name__, len(one.metadata.defects)],
            ]
            for one in importlib.metadata.distributions() if "broken" not in str(one._path)
        }

    class Reader(types.ModuleType):
        times = 0
        def original_entry_points(self, **chosen):
            Reader.times += 1
            return importlib.metadata.entry_points(**chosen)

    reader = Reader("opentelemetry.util._importlib_metadata")
    reader.original_entry_points = reader.original_entry_points
    sys.modules[reader.__name__] = reader
    plain = described()

    spec = importlib.util.spec_from_file_location("installed", sys.argv[1])
    installed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(installed)
    parse, Reader.times = email.message_from_string, 0
    failures = installed.remember_installed()
"""


def package(folder: Path, name: str, version: str = "1.0") -> Path:
    place = folder / f"{name}.dist-info"
    place.mkdir(parents=True, exist_ok=True)
    (place / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        f"Requires-Dist: other (>={version})\nRequires-Dist: more ; extra == 'all'\n"
        f"Classifier: One\n  line\n\nWhat it is.\n"
    )
    (place / "entry_points.txt").write_text(f"[things]\n{name} = {name}:main\n")
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    package(tmp_path / "site", "first")
    package(tmp_path / "site", "second")
    (tmp_path / "site" / "broken.dist-info").mkdir()
    (tmp_path / "site" / "broken.dist-info" / "METADATA").write_bytes(b"\xff\xfe")
    return tmp_path / "site"


def run(program: str, folder: Path) -> Any:
    assert installed.__file__ is not None
    source = textwrap.dedent(BEFORE) + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", source, installed.__file__, str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_reads_what_it_would_read_anyway_and_parses_nothing(folder: Path) -> None:
    same, names, is_whole = run(
        """
        def fail(*arguments, **options):
            raise AssertionError("it is parsed again")
        email.parser.Parser.parsestr = fail
        print(json.dumps([described() == plain, sorted(plain), email.message_from_string is parse]))
        """,
        folder,
    )
    assert same
    assert {"first", "second"} <= set(names)
    assert is_whole, "others have the package `email` as it is"


def test_what_one_reader_adds_another_does_not_see(folder: Path) -> None:
    found = run(
        """
        first = importlib.metadata.distribution("first").metadata
        first["Requires-Dist"] = "added"
        first.defects.append("added")
        again = importlib.metadata.distribution("first").metadata
        print(json.dumps([again.get_all("Requires-Dist"), again.defects, described() == plain]))
        """,
        folder,
    )
    assert found == [["other (>=1.0)", "more ; extra == 'all'"], [], True]


def test_a_description_that_has_changed_is_read_as_it_is(folder: Path) -> None:
    found = run(
        """
        path = os.path.join(sys.argv[2], "first.dist-info", "METADATA")
        text = open(path).read()
        open(path, "w").write(text.replace("1.0", "2.0"))
        print(json.dumps([importlib.metadata.version(name) for name in ("first", "second")]))
        """,
        folder,
    )
    assert found == ["2.0", "1.0"]


def test_entry_points_are_read_again_only_where_something_has_changed(folder: Path) -> None:
    package(folder.parent / "late", "late")
    found = run(
        """
        def names():
            found = reader.original_entry_points()
            found = found.get("things", ()) if isinstance(found, dict) else found.select(
                group="things"
            )
            return [Reader.times, sorted(point.name for point in found)]

        found = [names(), names()]
        sys.path.append(os.path.join(os.path.dirname(sys.argv[2]), "late"))
        found.append(names())
        sys.path.pop()
        found.append(names())
        os.mkdir(os.path.join(sys.argv[2], "new.dist-info"))
        with open(os.path.join(sys.argv[2], "new.dist-info", "entry_points.txt"), "w") as file:
            file.write("[things]\\nnew = new:main\\n")
        found.append(names())
        chosen = [point.name for point in reader.original_entry_points(group="things")]
        print(json.dumps([*found, [Reader.times, sorted(chosen)]]))
        """,
        folder,
    )
    both = ["first", "second"]
    assert found == [
        [1, both],
        [1, both],
        [2, ["first", "late", "second"]],
        [2, both],
        [3, ["first", "new", "second"]],
        [4, ["first", "new", "second"]],
    ]


def test_what_cannot_be_read_stands_in_nobodys_way_and_is_told(folder: Path) -> None:
    error, version, failures = run(
        """
        try:
            importlib.metadata.distribution("broken").metadata
        except UnicodeDecodeError as error:
            print(json.dumps([
                type(error).__name__, importlib.metadata.version("first"), failures
            ]))
        """,
        folder,
    )
    assert [error, version] == ["UnicodeDecodeError", "1.0"]
    assert [one[:47] for one in failures] == ["importlib.metadata: UnicodeDecodeError('utf-8',"]


def test_readers_that_are_not_as_expected_are_left_as_they_are(folder: Path) -> None:
    found = run(
        """
        class Unlike(types.ModuleType):
            def original_entry_points(self):
                raise ValueError("x" * 1000)

        sys.modules["importlib_metadata"] = types.ModuleType("importlib_metadata")
        sys.modules[reader.__name__] = Unlike(reader.__name__)
        print(json.dumps(installed.remember_installed()))
        """,
        folder,
    )
    assert found[0].startswith("importlib.metadata: UnicodeDecodeError(")
    assert found[1].startswith("importlib_metadata: AttributeError(")
    assert found[2].startswith("opentelemetry.util._importlib_metadata: ValueError('xxx")
    assert [len(found), len(found[2])] == [3, 200]


def test_not_more_is_told_than_goes_into_a_message(folder: Path) -> None:
    for number in range(20):
        package(folder, f"broken-{number}").joinpath("METADATA").write_bytes(b"\xff")
    assert len(run("print(json.dumps(failures))", folder)) == 8
