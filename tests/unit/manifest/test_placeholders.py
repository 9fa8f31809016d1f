"""Placeholders."""

import pytest
from hypothesis import given, strategies as st

from trunkline.manifest.placeholders import escape, names_in, placeholder_fault, resolve


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain $ text $A {B}", "plain $ text $A {B}"),
        ("${A}", "one"),
        ("<${A}${A}>", "<oneone>"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$$A", "$$A"),
        ("${{ project.endpoint }}", "${{ project.endpoint }}"),
        ("${{connections.${A}}}", "${{connections.${A}}}"),
        ("$${{ a }}", "${{ a }}"),
        ("${A", "${A"),
        ("${A b}", "${A b}"),
        ("${A:-b}", "${A:-b}"),
        ("${B}", "${A}"),
    ],
)
def test_resolve(text: str, expected: str) -> None:
    resolved = resolve(text, {"A": "one", "B": "${A}"})
    assert resolved.text == expected
    assert resolved.unset == ()


def test_unset_is_empty_and_reported_once() -> None:
    resolved = resolve("${B}-${A}-${B}-${C}", {"C": ""})
    assert resolved.text == "---"
    assert resolved.unset == ("B", "A")


def test_names() -> None:
    assert names_in("${B} $${C} ${{ D }} ${A} ${B}") == ("B", "A")


@pytest.mark.parametrize("text", ["${", "a ${1}", "${A b}", "${}", "${{ a }", "$${ok} ${A:-b}"])
def test_fault(text: str) -> None:
    fault = placeholder_fault(text)
    assert fault is not None
    assert "is not a placeholder; write ${NAME}" in fault


@given(st.text(alphabet="${}aA _") | st.text())
def test_escaped_text_comes_back(text: str) -> None:
    assert resolve(escape(text), {}).text == text
    assert placeholder_fault(escape(text)) is None


@given(st.text(alphabet="${}AB"), st.dictionaries(st.sampled_from("AB"), st.text(alphabet="${}A")))
def test_total_and_consistent(text: str, values: dict[str, str]) -> None:
    resolved = resolve(text, values)
    assert set(resolved.unset) == set(names_in(text)) - set(values)
