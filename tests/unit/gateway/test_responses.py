"""Refusals written straight to a connection."""

import pytest

from tests.unit.gateway.answers import assert_refused
from trunkline.gateway.responses import refusal
from trunkline.protocol import errors
from trunkline.protocol.errors import TrunklineError


def all_errors() -> list[type[TrunklineError]]:
    return [
        cls
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, TrunklineError)
    ]


@pytest.mark.parametrize("cls", all_errors())
def test_every_error_has_one_shape(cls: type[TrunklineError]) -> None:
    answer = assert_refused(refusal(cls("wörds"), ("x-more", "1")), cls.status, cls.code, "wörds")
    assert answer.headers["x-more"] == "1"
    assert ("www-authenticate" in answer.headers) == (cls.status == 401)
    tells_when = cls.status == 503 or cls is errors.RateLimitedError
    assert ("retry-after" in answer.headers) == tells_when
    assert ("sec-websocket-version" in answer.headers) == (cls.status == 426)
    assert answer.headers.get("x-adc-response-details", "") == cls.session_code


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [cls.code for cls in all_errors()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize(
    ("cls", "code"),
    [
        (errors.SessionNotReadyError, "ReadinessTimeout"),
        (errors.VersionNotReadyError, "AgentVersionNotReady"),
        (errors.VersionFailedError, "AgentVersionProvisioningFailed"),
        (errors.SessionNotFoundError, "SandboxNotFound"),
        (errors.QuotaExceededError, "QuotaExceeded"),
        (errors.SessionNotAccessibleError, ""),
    ],
)
def test_what_became_of_a_session_is_told_in_the_contracts_words(cls, code: str) -> None:
    assert cls.session_code == code


def test_a_param_is_told() -> None:
    raw = refusal(errors.InvalidRequestError("bad", param="tail"))
    assert assert_refused(raw, 400, "invalid_request").error["param"] == "tail"
