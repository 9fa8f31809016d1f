"""The errors trunkline reports, each with a stable code.

::

    TrunklineError
    ├── InvalidRequestError            400  invalid_request
    │   ├── PathOutsideHomeError       400  path_outside_home
    │   └── TooManyVersionsError       400  UserError
    ├── AuthenticationError            401  unauthenticated
    ├── ForbiddenError                 403  forbidden
    │   ├── OriginNotAllowedError      403  origin_not_allowed
    │   └── SessionNotAccessibleError  403  session_not_accessible
    ├── NotFoundError                  404  not_found
    │   ├── AgentNotFoundError         404  agent_not_found
    │   ├── ProtocolNotDeclaredError   404  protocol_not_declared
    │   ├── VersionNotFoundError       404  version_not_found
    │   ├── SessionNotFoundError       404  session_not_found
    │   ├── FileMissingError           404  file_not_found
    │   ├── ConversationNotFoundError  404  conversation_not_found
    │   ├── ResponseNotFoundError      404  response_not_found
    │   └── PreviewFeatureError        404  preview_feature_required
    ├── MethodNotAllowedError          405  method_not_allowed
    ├── ConflictError                  409  conflict
    │   └── AgentDisabledError         409  agent_disabled
    ├── TooLargeError                  413  payload_too_large
    ├── SessionNotReadyError           424  session_not_ready
    │   └── VersionNotReadyError       424  version_not_ready
    │       └── VersionFailedError     424  version_failed
    ├── UpgradeRequiredError           426  upgrade_required
    ├── QuotaExceededError             429  QuotaExceeded
    ├── RateLimitedError               429  rate_limited
    ├── TooManyConnectionsError        429  too_many_connections
    ├── HeadTooLargeError              431  head_too_large
    ├── HeadTimeoutError               408  head_timeout
    ├── UpstreamError                  502  upstream_failed
    └── UnavailableError               503  unavailable
        └── SessionFailingError        503  session_failing
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Self


class TrunklineError(Exception):
    """The root of every error trunkline raises on purpose.

    ``str(error)`` is written for the person who can mend it: what was wrong, and what would
    be right. It never holds a secret.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    #: What the contract calls it in ``x-adc-response-details``; empty if it has no name for it.
    session_code: ClassVar[str] = ""
    #: The setting whose limit this is about; empty if it isn't about one.
    limit: str = ""

    def by_limit(self, setting: str) -> Self:
        """Say which setting's limit it is about, for those who count that."""
        self.limit = setting
        return self


class InvalidRequestError(TrunklineError):
    """The request isn't of the form the contract asks for."""

    code = "invalid_request"
    status = 400

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class PathOutsideHomeError(InvalidRequestError):
    """The path of a session's file leads out of its home, or through a link that might."""

    code = "path_outside_home"

    def __init__(self, message: str) -> None:
        super().__init__(message, param="path")


class TooManyVersionsError(InvalidRequestError):
    """The agent has as many versions as it may have."""

    code = "UserError"


class AuthenticationError(TrunklineError):
    """Nobody is known to be calling: no token, or one that doesn't verify."""

    code = "unauthenticated"
    status = 401


class ForbiddenError(TrunklineError):
    """The caller is known, and may not do this."""

    code = "forbidden"
    status = 403


class OriginNotAllowedError(ForbiddenError):
    """A page of another origin asked a browser to connect here."""

    code = "origin_not_allowed"


class SessionNotAccessibleError(ForbiddenError):
    """The session is another identity's, or isn't there: the answer is the same."""

    code = "session_not_accessible"


class NotFoundError(TrunklineError):
    """Nothing is there under that name."""

    code = "not_found"
    status = 404


class AgentNotFoundError(NotFoundError):
    """No agent has that name in the project."""

    code = "agent_not_found"


class ProtocolNotDeclaredError(NotFoundError):
    """The session's version doesn't declare the protocol that was used."""

    code = "protocol_not_declared"


class VersionNotFoundError(NotFoundError):
    """The agent has no such version."""

    code = "version_not_found"


class SessionNotFoundError(NotFoundError):
    """The session was the caller's, and isn't there any more."""

    code = "session_not_found"
    session_code = "SandboxNotFound"


class FileMissingError(NotFoundError):
    """The session has no file or folder at the path."""

    code = "file_not_found"


class ConversationNotFoundError(NotFoundError):
    """The caller has no such conversation with the agent, or it has no such item."""

    code = "conversation_not_found"


class ResponseNotFoundError(NotFoundError):
    """The caller has had no such response from the agent."""

    code = "response_not_found"


class PreviewFeatureError(NotFoundError):
    """A preview route was called without its flag."""

    code = "preview_feature_required"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class MethodNotAllowedError(TrunklineError):
    """The path is there, and isn't for this method."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, message: str, *, allowed: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.allowed = tuple(sorted(allowed))


class ConflictError(TrunklineError):
    """The request doesn't fit the present state."""

    code = "conflict"
    status = 409


class AgentDisabledError(ConflictError):
    """The agent takes no sessions and no calls until it is enabled again."""

    code = "agent_disabled"


class QuotaExceededError(TrunklineError):
    """As many sessions run as may run at once."""

    code = "QuotaExceeded"
    session_code = "QuotaExceeded"
    status = 429


class RateLimitedError(TrunklineError):
    """An address or an identity asks too often."""

    code = "rate_limited"
    status = 429

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooManyConnectionsError(TrunklineError):
    """An address, an identity or a session has as many connections as it may have."""

    code = "too_many_connections"
    status = 429


class TooLargeError(TrunklineError):
    """A body is over its limit."""

    code = "payload_too_large"
    status = 413


class SessionNotReadyError(TrunklineError):
    """The session's agent couldn't be started, or didn't get ready in time."""

    code = "session_not_ready"
    status = 424
    session_code = "ReadinessTimeout"


class VersionNotReadyError(SessionNotReadyError):
    """The version is still being built, or its build failed."""

    code = "version_not_ready"
    session_code = "AgentVersionNotReady"


class VersionFailedError(VersionNotReadyError):
    """The version's build failed; it will never be ready."""

    code = "version_failed"
    session_code = "AgentVersionProvisioningFailed"


class UpgradeRequiredError(TrunklineError):
    """The endpoint speaks WebSocket only, and version 13 of it."""

    code = "upgrade_required"
    status = 426


class HeadTooLargeError(TrunklineError):
    """A request's head is over its limit."""

    code = "head_too_large"
    status = 431


class HeadTimeoutError(TrunklineError):
    """A request's head didn't arrive in time."""

    code = "head_timeout"
    status = 408


class UpstreamError(TrunklineError):
    """The agent is running, and broke the protocol or went away."""

    code = "upstream_failed"
    status = 502


class UnavailableError(TrunklineError):
    """The platform takes nothing on at the moment: it is starting or draining."""

    code = "unavailable"
    status = 503


class SessionFailingError(UnavailableError):
    """The session's agent failed again and again, and is started again after a while."""

    code = "session_failing"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def envelope(error: TrunklineError) -> dict[str, Any]:
    """Return the JSON body every refused request is answered with."""
    return {
        "error": {
            "code": error.code,
            "message": str(error),
            "param": getattr(error, "param", None),
            "type": "invalid_request_error" if error.status < 500 else "server_error",
            "details": [],
            "additionalInfo": {},
            "debugInfo": {},
        }
    }


INTERNAL_ERROR = TrunklineError("something broke on our side; the log has the cause")
