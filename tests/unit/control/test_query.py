"""Numbers and flags of a log stream's query."""

import pytest

from trunkline.control.sessions import _flag, _number
from trunkline.protocol.errors import InvalidRequestError


@pytest.mark.parametrize(("text", "number"), [(None, 9), ("0", 0), ("7", 7), ("100", 100)])
def test_a_number(text: str | None, number: int) -> None:
    assert _number(text, "tail", 9, 100) == number


@pytest.mark.parametrize("text", ["", "-1", "1.5", "101", "x", "1e1", "9" * 30, "9" * 5000])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="up to 100") as caught:
        _number(text, "tail", 9, 100)
    assert caught.value.param == "tail"


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("False", False), ("TRUE", True)])
def test_a_flag(text: str, flag: bool) -> None:
    assert _flag(text, "follow") is flag


@pytest.mark.parametrize("text", ["", "1", "yes"])
def test_what_is_no_flag(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="true or false"):
        _flag(text, "follow")
