"""Environments made by uv, out of packages made here: no network."""

import asyncio
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from trunkline.protocol.ids import VersionId
from trunkline.runtimes.interface import BuildFailedError, Launch, VersionSource
from trunkline.runtimes.process.environment import MARKER, EnvironmentBuilder
from trunkline.runtimes.process.settings import ProcessSettings

# A host of its own, so that ours, which has dependencies, isn't added.
HOST = "azure-ai-agentserver-tiny"


class Log:
    def __init__(self) -> None:
        self.text = ""
        self.written = asyncio.Event()

    def write(self, text: str) -> None:
        self.text += text
        self.written.set()


def make_wheel(folder: Path, name: str, module: str, code: str = "", script: str = "") -> None:
    stem = f"{name.replace('-', '_')}-1.0"
    info = f"{stem}.dist-info"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{module}.py", code)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        if script:
            archive.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{script}\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def settings(tmp_path: Path) -> ProcessSettings:
    links = tmp_path / "links"
    links.mkdir()
    make_wheel(links, HOST, "tiny", "x = 1\ndef main(): print('served')", "serve=tiny:main")
    make_wheel(links, "other", "other")
    return ProcessSettings(
        state_dir=tmp_path / "state",
        platform_environment={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "UV_OFFLINE": "1",
            "UV_FIND_LINKS": str(links),
            "UV_CACHE_DIR": str(tmp_path / "cache"),
        },
    )


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., VersionSource]:
    def make(name: str = "agent", **files: str) -> VersionSource:
        folder = tmp_path / name
        folder.mkdir()
        files = {"main_py": "import tiny", "requirements_txt": HOST} | files
        for file, text in files.items():
            (folder / file.replace("_", ".")).write_text(text)
        return VersionSource(
            agent="agent",
            version=VersionId("1"),
            code_dir=folder,
            runtime=None,
            entry_point=(),
            dependency_resolution="remote_build",
        )

    return make


def run(launch: Launch) -> str:
    done = subprocess.run(
        launch.command,
        cwd=launch.working_dir,
        env=dict(launch.environment),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


async def test_version_is_made_ready_to_start(
    settings: ProcessSettings, source: Callable[..., VersionSource]
) -> None:
    log = Log()
    code = "import sys, tiny\nprint(sys.prefix, tiny.__cached__)"
    made = source(main_py=code)
    launch = await EnvironmentBuilder(settings).build(made, log)
    environment = Path(launch.environment["VIRTUAL_ENV"])
    assert environment.parent == settings.state_dir / "environments"
    assert launch.command == (f"{environment}/bin/python", "main.py")
    assert launch.working_dir == str(made.code_dir)
    assert launch.environment["PATH"] == f"{environment}/bin"
    assert launch.notes == ()
    prefix, compiled = run(launch).split()
    assert prefix == str(environment)
    assert os.path.exists(compiled)
    assert list((made.code_dir / "__pycache__").glob("main.*.pyc"))
    assert f"+ {HOST}==1.0" in log.text
    assert "trunkline" not in log.text
    assert json.loads((environment / MARKER).read_text())["python"].startswith("Python 3.")


async def test_versions_with_the_same_requirements_share_one(
    settings: ProcessSettings, source: Callable[..., VersionSource]
) -> None:
    # The second builder stands for another process: they share nothing but the disk.
    builders = [EnvironmentBuilder(settings), EnvironmentBuilder(settings)]
    logs = [Log() for _ in range(4)]
    launches = await asyncio.gather(
        *(
            builders[number % 2].build(source(f"agent{number}"), log)
            for number, log in enumerate(logs)
        )
    )
    assert len({launch.command[0] for launch in launches}) == 1
    assert len({launch.working_dir for launch in launches}) == 4
    assert sorted("is there already" in log.text for log in logs) == [False, True, True, True]


async def test_changed_requirements_make_another(
    settings: ProcessSettings, source: Callable[..., VersionSource]
) -> None:
    builder = EnvironmentBuilder(settings)
    first = await builder.build(source("a"), Log())
    second = await builder.build(source("b", requirements_txt=f"{HOST}\nother\n"), Log())
    assert first.command[0] != second.command[0]


@pytest.mark.parametrize("damage", ["marker", "interpreter"])
async def test_half_built_environment_is_made_anew(
    settings: ProcessSettings, source: Callable[..., VersionSource], damage: str
) -> None:
    builder = EnvironmentBuilder(settings)
    launch = await builder.build(source("a"), Log())
    environment = Path(launch.environment["VIRTUAL_ENV"])
    (environment / "rubbish").touch()
    (environment / (MARKER if damage == "marker" else "bin/python")).unlink()
    log = Log()
    assert (await builder.build(source("b"), log)).command == launch.command
    assert not (environment / "rubbish").exists()
    assert "is there already" not in log.text
    assert {path.name for path in environment.parent.iterdir()} == {
        environment.name,
        f"{environment.name}.lock",
    }


async def test_missing_package_is_told(
    settings: ProcessSettings, source: Callable[..., VersionSource]
) -> None:
    log = Log()
    made = source(requirements_txt=f"{HOST}\nnot-there\n")
    with pytest.raises(BuildFailedError) as caught:
        await EnvironmentBuilder(settings).build(made, log)
    assert "Because not-there was not found" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "not-there was not found" in log.text
    assert [path.suffix for path in (settings.state_dir / "environments").iterdir()] == [".lock"]


async def test_secrets_stay_out_of_the_log(
    settings: ProcessSettings, source: Callable[..., VersionSource]
) -> None:
    index = "http://me:hunter2@127.0.0.1:9/simple"
    environment = dict(settings.platform_environment) | {
        "UV_OFFLINE": "0",
        "UV_INDEX_URL": index,
        "UV_HTTP_RETRIES": "0",
    }
    log = Log()
    made = source(requirements_txt=f"--extra-index-url {index}\n{HOST}\nnot-there\n")
    with pytest.raises(BuildFailedError) as caught:
        await EnvironmentBuilder(replace(settings, platform_environment=environment)).build(
            made, log
        )
    assert "hunter2" not in log.text + str(caught.value)


async def test_entry_that_is_not_python_is_told(
    settings: ProcessSettings, source: Callable[..., VersionSource]
) -> None:
    log = Log()
    with pytest.raises(BuildFailedError, match=r"^main.py isn't valid Python: SyntaxError"):
        await EnvironmentBuilder(settings).build(source(main_py="def ("), log)
    assert "SyntaxError" in log.text


async def test_other_file_that_is_not_python_is_let_be(
    settings: ProcessSettings, source: Callable[..., VersionSource]
) -> None:
    await EnvironmentBuilder(settings).build(source(template_py="{{ name }} ="), Log())


async def test_command_of_a_package_may_be_the_entry(
    settings: ProcessSettings, source: Callable[..., VersionSource]
) -> None:
    made = replace(source(), entry_point=("serve",))
    launch = await EnvironmentBuilder(settings).build(made, Log())
    assert run(launch) == "served\n"


async def test_bundled_folder_is_all_there_is(
    settings: ProcessSettings, source: Callable[..., VersionSource]
) -> None:
    made = source(
        main_py="import own, packed; print(own.x, packed.y)",
        own_py="x = 1",
        requirements_txt="not-there",
    )
    packages = made.code_dir / ".python_packages" / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "packed.py").write_text("y = 2")
    (packages / "azure" / "ai" / "agentserver").mkdir(parents=True)
    made = replace(made, dependency_resolution="bundled")
    log = Log()
    launch = await EnvironmentBuilder(settings).build(made, log)
    assert launch.environment["PYTHONPATH"] == f"{made.code_dir}:{packages}"
    assert run(launch) == "1 2\n"
    assert "not-there" not in log.text


async def test_configuration_of_uv_in_the_folder_is_not_obeyed(
    settings: ProcessSettings, source: Callable[..., VersionSource], tmp_path: Path
) -> None:
    made = source(requirements_txt=f"{HOST}\n./lib.zip\n", uv_toml="no-such-option = 1")
    with zipfile.ZipFile(made.code_dir / "lib.zip", "w"):
        pass
    with pytest.raises(BuildFailedError) as caught:
        await EnvironmentBuilder(settings).build(made, Log())
    assert "no-such-option" not in str(caught.value)
    assert "lib.zip" in str(caught.value)


async def test_operators_configuration_of_uv_is_obeyed(
    settings: ProcessSettings, source: Callable[..., VersionSource], tmp_path: Path
) -> None:
    config = tmp_path / ".config" / "uv" / "uv.toml"
    config.parent.mkdir(parents=True)
    links = settings.platform_environment["UV_FIND_LINKS"]
    config.write_text(f'find-links = ["{links}"]\n')
    environment = dict(settings.platform_environment)
    del environment["UV_FIND_LINKS"]
    launch = await EnvironmentBuilder(replace(settings, platform_environment=environment)).build(
        source(), Log()
    )
    run(launch)


async def test_build_has_a_deadline(
    settings: ProcessSettings, source: Callable[..., VersionSource]
) -> None:
    log = Log()
    made = source()
    with pytest.raises(BuildFailedError) as caught:
        await EnvironmentBuilder(replace(settings, build_timeout_s=0.001)).build(made, log)
    assert str(caught.value) == "the build took longer than 0.001 s (build_timeout_s)"
    await EnvironmentBuilder(settings).build(made, log)


async def test_cancelled_build_leaves_nothing_half_done(
    settings: ProcessSettings, source: Callable[..., VersionSource]
) -> None:
    builder = EnvironmentBuilder(settings)
    made, log = source(), Log()
    build = asyncio.create_task(builder.build(made, log))
    await log.written.wait()
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    run(await builder.build(made, log))


async def test_python_that_is_not_there_is_replaced_and_told(
    settings: ProcessSettings, source: Callable[..., VersionSource], tmp_path: Path
) -> None:
    # Only our own interpreter is left, and no machine has the wanted one.
    environment = dict(settings.platform_environment) | {"PATH": "/usr/bin:/bin"}
    settings = replace(settings, platform_environment=environment)
    made = replace(source(), runtime="python_3_99")
    log = Log()
    launch = await EnvironmentBuilder(settings).build(made, log)
    (note,) = launch.notes
    assert note.startswith("python_3_99 is not on this machine; using Python 3.")
    assert note in log.text
    run(launch)


async def test_own_python_is_used_if_none_is_named(
    settings: ProcessSettings, source: Callable[..., VersionSource]
) -> None:
    made = source(main_py="import sys; print(sys.version)")
    launch = await EnvironmentBuilder(settings).build(made, Log())
    assert run(launch).strip() == sys.version


async def test_build_runs_no_code_with_the_platforms_secrets(
    settings: ProcessSettings, source: Callable[..., VersionSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUNKLINE_DATABASE_URL", "postgresql://u:hunter2@db")
    environment = dict(settings.platform_environment) | {"TRUNKLINE_TOKEN": "hunter2"}
    builder = EnvironmentBuilder(replace(settings, platform_environment=environment))
    made = source(requirements_txt=f"{HOST}\n./lib\n")
    lib = made.code_dir / "lib"
    lib.mkdir()
    (lib / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "lib"\nversion = "1"\n'
    )
    (lib / "backend.py").write_text(
        "import os, sys\nprint(sorted(os.environ), file=sys.stderr)\n"
        "print(dict(os.environ), file=sys.stderr)\nraise SystemExit('SEEN')\n"
    )
    log = Log()
    with pytest.raises(BuildFailedError):
        await builder.build(made, log)
    assert "SEEN" in log.text
    assert "UV_CACHE_DIR" in log.text
    assert "hunter2" not in log.text
