"""The tree of a YAML text."""

from contextlib import suppress

import pytest
from hypothesis import given, settings, strategies as st

from trunkline.manifest.yaml_tree import (
    Mapping,
    YamlProblemError,
    kind_of,
    parse_yaml,
    to_data,
)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", None),
        ("a: 1", {"a": 1}),
        ("a: '1'", {"a": "1"}),
        ("a: !!str 1", {"a": "1"}),
        ("a: 1.5", {"a": 1.5}),
        ("a: [~, null, ]", {"a": [None, None]}),
        ("a: [true, False, yes, on]", {"a": [True, False, "yes", "on"]}),
        ("a: 0o7", {"a": "0o7"}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: &x 1\nb: &x 2\nc: *x", {"a": 1, "b": 2, "c": 2}),
        ("--- # one\na: |\n  x\n  y\n...\n", {"a": "x\ny\n"}),
        ("%YAML 1.1\n---\na: yes", {"a": "yes"}),
        ("'<<': a", {"<<": "a"}),
    ],
)
def test_data(text: str, data: object) -> None:
    root = parse_yaml(text)
    assert (None if root is None else to_data(root)) == data


def test_kinds() -> None:
    root = parse_yaml("a: [~, 1, 1.5, true, x, [], {}]")
    assert isinstance(root, Mapping)
    items = root.entries[0][1]
    assert [kind_of(item) for item in items.items] == [  # type: ignore[union-attr]
        "empty",
        "a number",
        "a number",
        "true or false",
        "text",
        "a list",
        "a mapping",
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("- a\nb: 1", 2, 1, "fields of one mapping need the same indentation"),
        ("a: 1\n  b: 2", 2, 4, "mapping values are not allowed here"),
        ('a: "\\q"', 1, 6, "not valid YAML"),
        ('a: "\\UFFFFFFFF"', 1, 1, "not valid YAML"),
        ('a: "\\ud800"', 1, 4, "half a surrogate pair"),
        ("%YAML 3.0\n---\na: 1", 1, 1, "not valid YAML"),
        ("a: &x\n  b: *x", 2, 6, "nothing is called &x before this"),
        ("{a: 1, a: 2}", 1, 8, '"a" is given twice, first in line 1'),
    ],
)
def test_problem(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(YamlProblemError) as caught:
        parse_yaml(text)
    assert message in str(caught.value)
    assert (caught.value.mark.line, caught.value.mark.column) == (line, column)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-[]{}&*!|>'\"%#?,~ \n\t\\xu0F<@`.1") | st.text())
def test_any_text_gives_a_tree_or_a_problem(text: str) -> None:
    with suppress(YamlProblemError):
        root = parse_yaml(text)
        if root is not None:
            to_data(root)
            kind_of(root)
