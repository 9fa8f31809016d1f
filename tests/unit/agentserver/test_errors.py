import json

import pytest
from starlette.exceptions import HTTPException

from trunkline.agentserver._errors import PLATFORM_ERROR_TAG, failure_response, header_text


def body(response):
    return json.loads(response.body)["error"]


def test_an_exceptions_text_stays_inside():
    response = failure_response(ValueError("the password is 1234"))
    assert response.status_code == 500
    assert body(response) == {"code": "internal_error", "message": "Internal server error"}
    assert response.headers["x-platform-error-source"] == "upstream"
    assert "x-platform-error-detail" not in response.headers


def test_not_implemented_is_501_without_its_text():
    response = failure_response(NotImplementedError("secret"))
    assert response.status_code == 501
    assert body(response)["code"] == "not_implemented"
    assert b"secret" not in response.body


def test_an_http_exception_says_what_it_says():
    response = failure_response(HTTPException(429, "slow down", {"retry-after": "3"}))
    assert response.status_code == 429
    assert body(response) == {"code": "too_many_requests", "message": "slow down"}
    assert response.headers["retry-after"] == "3"


def test_an_http_exception_may_be_no_error():
    response = failure_response(HTTPException(307, headers={"location": "/x"}))
    assert response.status_code == 307
    assert response.headers["location"] == "/x"


def test_a_platform_error_carries_its_detail_in_a_header():
    error = RuntimeError("line\nX-Evil: 1 \u20ac")
    setattr(error, PLATFORM_ERROR_TAG, True)
    response = failure_response(error)
    assert response.status_code == 500
    assert response.headers["x-platform-error-source"] == "platform"
    assert response.headers["x-platform-error-detail"] == ("RuntimeError: line X-Evil: 1 \\u20ac")


def test_only_true_tags_a_platform_error():
    error = RuntimeError()
    setattr(error, PLATFORM_ERROR_TAG, "true")
    assert failure_response(error).headers["x-platform-error-source"] == "upstream"


@pytest.mark.parametrize("text", ["x" * 5000, "\u20ac" * 5000])
def test_a_long_detail_is_cut(text):
    cut = header_text(text)
    assert len(cut) == 2048
    assert cut.endswith("...[truncated]")
