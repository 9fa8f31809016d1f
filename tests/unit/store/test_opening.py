"""Which store the settings name, and what is said of one that is none."""

from pathlib import Path

import pytest

from trunkline.config import SettingsError
from trunkline.platform.settings import load_settings
from trunkline.store.errors import StoreNotOpenError
from trunkline.store.opening import StorePlace
from trunkline.store.settings import StoreSettings

STATE = Path("/state")


def problem_of(**env: str) -> str:
    variables = {f"TRUNKLINE_STORE_{name.upper()}": value for name, value in env.items()}
    with pytest.raises(SettingsError) as caught:
        load_settings(variables, STATE)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("", STATE / "trunkline.db"),
        ("sqlite:///var/lib/a.db", Path("/var/lib/a.db")),
        ("sqlite:////var/lib/a.db", Path("/var/lib/a.db")),
        ("sqlite:///with%20space/%C3%A4.db", Path("/with space/ä.db")),
        ("postgresql://u:p@h/d", None),
        ("postgres://u:p@h/d", None),
    ],
)
def test_what_a_url_names(url: str, file: Path | None) -> None:
    place = StorePlace(StoreSettings(url=url), STATE)
    assert (place.file, place.is_shared) == (file, file is None)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:s3cret@h/d", "must begin with postgresql:// or sqlite:///"),
        ("s3cret", "must begin with postgresql:// or sqlite:///"),
        ("sqlite://s3cret.db", "by its whole path, such as sqlite:///"),
        ("sqlite:s3cret.db", "by its whole path"),
        ("sqlite:///", "by its whole path"),
        ("sqlite:///a.db?s3cret=1", "by its whole path"),
    ],
)
def test_a_url_that_names_no_store_is_refused_and_not_repeated(url: str, words: str) -> None:
    problem = problem_of(url=url)
    assert words in problem
    assert "s3cret" not in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [("pool_size", "0"), ("pool_size", "1001"), ("timeout_s", "0.5"), ("connect_timeout_s", "1")],
)
def test_limits_that_make_no_sense(name: str, value: str) -> None:
    assert problem_of(**{name: value}).startswith(f"TRUNKLINE_STORE_{name.upper()}={value} must")


def test_a_url_in_two_places_is_refused() -> None:
    problem = problem_of(url="sqlite:///a.db", url_file="/x")
    assert problem.startswith("TRUNKLINE_STORE_URL and TRUNKLINE_STORE_URL_FILE are both given")


def test_settings_are_shown_without_the_url() -> None:
    assert "s3cret" not in repr(StoreSettings(url="postgresql://u:s3cret@h/d"))


def test_a_url_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("sqlite:///a.db\n")
    assert StorePlace(StoreSettings(url_file=file), STATE).file == Path("/a.db")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't read .*: No such file"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "isn't text"),
        (b"mysql://u:s3cret@h", "must begin with"),
    ],
)
def test_a_file_without_a_url(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StoreNotOpenError, match=words) as caught:
        StorePlace(StoreSettings(url_file=file), STATE)
    assert "TRUNKLINE_STORE_URL_FILE" in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_a_file_of_ones_own_choice_is_made_with_its_folder(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/deep/down/a.db"
    store = await StorePlace(StoreSettings(url=url), STATE).open()
    await store.ping()
    await store.aclose()
    assert (tmp_path / "deep/down/a.db").exists()
