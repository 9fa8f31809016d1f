"""Settings out of the environment: every type, every mistake at once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trunkline import config
from trunkline.config import SettingsError, check_unknown, describe, load, settable, variable_of
from trunkline.platform.settings import COMPONENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Settings of every type."""

    given: Path
    """For the code that composes."""
    switch: bool = False
    """A switch,
    told in two lines."""
    count: int = 1
    """A count."""
    seconds: float = 1.5
    """Seconds."""
    text: str = "t"
    """A text."""
    folder: Path = Path("/x")
    """A folder."""
    maybe: Path | None = None
    """A folder or none."""
    names: tuple[str, ...] = ("a",)
    """Names."""
    table: dict[str, str] = field(default_factory=dict)
    """Not text."""

    def __post_init__(self) -> None:
        if self.count > 10:
            raise ValueError("count must be at most 10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Settings with units."""

    wait_s: float = 1.0
    """Seconds."""
    most_bytes: int = 1024
    """Bytes."""
    calls_per_s: float = 1.0
    """Calls a second."""

    def __post_init__(self) -> None:
        if self.wait_s == 13:
            raise ValueError("no thirteens here")


def loaded(**env: str) -> Sample:
    variables = {f"TRUNKLINE_SAMPLE_{name.upper()}": value for name, value in env.items()}
    return load("sample", Sample, variables, given=Path("/g"))


def problems_of(**env: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        loaded(**env)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_nothing_said_is_the_defaults() -> None:
    assert loaded() == Sample(given=Path("/g"))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        *(("switch", text, True) for text in ("1", "true", "TRUE", "yes", "On", " true ")),
        *(("switch", text, False) for text in ("0", "false", "No", "off")),
        ("count", "-3", -3),
        ("count", " 7 ", 7),
        ("seconds", "2", 2.0),
        ("seconds", "0.25", 0.25),
        ("text", " spaced ", "spaced"),
        ("text", "", ""),
        ("folder", "/a/b", Path("/a/b")),
        ("maybe", "rel", Path("rel")),
        ("names", "a", ("a",)),
        ("names", " a, b ,,c", ("a", "b", "c")),
        ("names", "", ()),
    ],
)
def test_each_type(name: str, text: str, value: Any) -> None:
    got = getattr(loaded(**{name: text}), name)
    assert got == value
    assert type(got) is type(value)


def test_a_folder_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert loaded(folder="~/x").folder == Path("/home/me/x")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("switch", "maybe", "true or false"),
        ("switch", "", "true or false"),
        ("count", "1.5", "a whole number"),
        ("count", "1e3", "a whole number"),
        ("count", "", "a whole number"),
        ("count", "9" * 5000, "a whole number"),
        ("seconds", "soon", "a number"),
        ("seconds", "nan", "a number"),
        ("seconds", "inf", "a number"),
        ("seconds", "-infinity", "a number"),
        ("count", "11", "at most 10"),
    ],
)
def test_a_bad_value_is_named_with_what_would_be_right(name: str, text: str, words: str) -> None:
    (problem,) = problems_of(**{name: text})
    assert words in problem


@pytest.mark.parametrize(
    ("name", "text", "right"),
    [
        ("wait_s", "15m", "seconds without a unit: 900"),
        ("wait_s", "1.5 h", "seconds without a unit: 5400"),
        ("wait_s", "250ms", "seconds without a unit: 0.25"),
        ("wait_s", "10 parsecs", "give a number of seconds"),
        ("most_bytes", "64k", "bytes without a unit: 65536"),
        ("most_bytes", "2GiB", "bytes without a unit: 2147483648"),
        ("most_bytes", "many", "give a whole number of bytes"),
        ("calls_per_s", "5s", "give a number"),
    ],
)
def test_a_value_with_a_unit_is_answered_with_the_number_it_means(
    name: str, text: str, right: str
) -> None:
    variable = f"TRUNKLINE_UNITS_{name.upper()}"
    with pytest.raises(SettingsError) as caught:
        load("units", Units, {variable: text})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{variable}={text!r}: ")
    assert problem.endswith(right)


def test_what_fits_no_field_is_told_of_the_component() -> None:
    with pytest.raises(SettingsError) as caught:
        load("units", Units, {"TRUNKLINE_UNITS_WAIT_S": "13"})
    assert caught.value.problems == ["units: no thirteens here"]


def test_all_bad_values_are_told_at_once() -> None:
    problems = problems_of(count="x", seconds="y", switch="z")
    assert len(problems) == 3
    for name, value in (("COUNT", "x"), ("SECONDS", "y"), ("SWITCH", "z")):
        assert any(f"TRUNKLINE_SAMPLE_{name}='{value}'" in problem for problem in problems)


def test_what_is_given_wins() -> None:
    env = {"TRUNKLINE_SAMPLE_COUNT": "5"}
    assert load("sample", Sample, env, given=Path("/g"), count=3).count == 3


def test_what_no_text_can_say_is_not_settable() -> None:
    assert "given" not in settable(Sample)
    assert "table" not in settable(Sample)
    assert loaded(given="/other", table="x").given == Path("/g")


def test_an_unknown_variable_gets_the_nearest_name() -> None:
    env = {"TRUNKLINE_SAMPLE_CONUT": "1", "TRUNKLINE_WHOLLY_UNLIKE_ANY_OF_THEM": "1", "OTHER": "1",
           "TRUNKLINE_SAMPLE_COUNT": "1"}  # fmt: skip
    with pytest.raises(SettingsError) as caught:
        check_unknown(env, {"sample": Sample})
    assert caught.value.problems == [
        "TRUNKLINE_SAMPLE_CONUT is not a setting; did you mean TRUNKLINE_SAMPLE_COUNT?",
        "TRUNKLINE_WHOLLY_UNLIKE_ANY_OF_THEM is not a setting",
    ]


@pytest.mark.parametrize("name", sorted(config.OTHER_VARIABLES))
def test_variables_that_are_no_settings_are_known(name: str) -> None:
    check_unknown({name: "x"}, {})


def test_describing_a_class() -> None:
    docs = {doc.name: doc for doc in describe("sample", Sample)}
    assert list(docs) == settable(Sample)
    assert docs["switch"].text == "A switch, told in two lines."
    assert docs["count"].variable == "TRUNKLINE_SAMPLE_COUNT"
    assert (docs["count"].type, docs["count"].default) == ("int", 1)


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_setting_of_every_component_is_described(component: str) -> None:
    settings = COMPONENTS[component]
    docs = describe(component, settings)
    assert [doc.name for doc in docs] == settable(settings)
    for doc in docs:
        assert doc.text, f"{component}.{doc.name} has no docstring"
        assert doc.variable == variable_of(component, doc.name)


def test_variables_of_two_components_never_clash() -> None:
    names = [variable_of(c, name) for c, s in COMPONENTS.items() for name in settable(s)]
    assert len(names) == len(set(names))


def test_where_state_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("TRUNKLINE_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert config.default_state_dir().name == "trunkline"
    monkeypatch.setenv("TRUNKLINE_HOME", "~/state")
    assert config.default_state_dir() == Path("/home/me/state")
    monkeypatch.setenv("TRUNKLINE_HOME", "")
    assert config.default_state_dir().name == "trunkline"
