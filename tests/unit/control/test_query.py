"""Numbers and flags of a log stream's query."""

import pytest

from trunkline.control.logs import _number
from trunkline.protocol.errors import InvalidRequestError
from trunkline.web.body import flag


@pytest.mark.parametrize(("text", "number"), [(None, 9), ("0", 0), ("7", 7), ("100", 100)])
def test_a_number(text: str | None, number: int) -> None:
    assert _number(text, "tail", 9, 100) == number


@pytest.mark.parametrize("text", ["", "-1", "1.5", "101", "x", "1e1", "9" * 30, "9" * 5000])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="up to 100") as caught:
        _number(text, "tail", 9, 100)
    assert caught.value.param == "tail"


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("False", False), ("TRUE", True), (None, False)]
)
def test_a_flag(text: str | None, value: bool) -> None:
    assert flag(text, "follow", default=False) is value


@pytest.mark.parametrize("text", ["", "1", "yes"])
def test_what_is_no_flag(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="true or false"):
        flag(text, "follow", default=True)
