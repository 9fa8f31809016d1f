"""What to say of an error: one line with what to do next, and an exit code."""

from trunkline.cli.exits import ExitCode
from trunkline.client import (
    BuildFailedError,
    EndpointError,
    InsecureEndpointError,
    MissingTokenError,
    RefusedError,
    UnreachableError,
)
from trunkline.config import SettingsError
from trunkline.manifest.errors import ManifestError, PackageError
from trunkline.protocol.errors import InvalidRequestError, TrunklineError
from trunkline.recordings.format import RecordingError

#: By the platform's code; ``{agent}`` is the agent's name.
_ADVICE = {
    "agent_not_found": "`trunkline list` shows the agents there are",
    "session_not_found": "`trunkline sessions list {agent}` shows the sessions there are",
    "version_not_found": "`trunkline show {agent}` shows the latest version",
    "version_not_ready": "`trunkline show {agent}` shows its status",
    "version_failed": "`trunkline show {agent}` shows what its build said",
    "session_not_ready": "`trunkline monitor {agent}` shows why",
    "session_not_accessible": "`trunkline sessions list {agent}` shows yours; without "
    "--session-id it is one of them or a new one",
}
_UNAUTHENTICATED = (
    "set TRUNKLINE_TOKEN to a fresh token, or for a platform on this machine give the "
    "--state-dir it was started with"
)
_USAGE = (
    EndpointError,
    InsecureEndpointError,
    InvalidRequestError,
    ManifestError,
    PackageError,
    RecordingError,
    SettingsError,
)


def describe(error: Exception) -> tuple[str, ExitCode]:
    """Return the line and the exit code for an error that ended a command."""
    code = ExitCode.USAGE if isinstance(error, _USAGE) else ExitCode.FAILED
    advice = advise(error)
    text = str(error).rstrip()
    if not isinstance(error, TrunklineError | OSError):
        text = f"trunkline itself broke: {type(error).__name__}: {text}"
    return (f"{text.removesuffix('.')}: {advice}" if advice else text), code


def advise(error: Exception) -> str:
    """Return what to do about an error, if that isn't plain from its text."""
    match error:
        case UnreachableError():
            return _advise_unreachable(error)
        case RefusedError():
            return _advise_refused(error)
        case InsecureEndpointError():
            return "use https, or say --insecure-http if the network between is yours alone"
        case MissingTokenError():
            return "a platform on another machine takes no token of this one's issuer"
        case TrunklineError() | BuildFailedError() | OSError():
            return ""
        case _:
            return "run it again with --debug to see where, and please report it"


#: What OpenSSL calls a certificate of nobody that this machine knows, whoever passes that on.
_NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"


def _advise_unreachable(error: UnreachableError) -> str:
    if error.is_connected:
        return "run the command again; `trunkline monitor` may show what happened"
    if _NOT_TRUSTED in str(error):
        return "name a file with its certificate's authority in SSL_CERT_FILE"
    return "start it with `trunkline up`, or name another platform with --endpoint"


def _advise_refused(error: RefusedError) -> str:
    if error.status == 401:
        return _UNAUTHENTICATED
    if "`trunkline " in str(error):
        # The platform said already what to run.
        return ""
    if error.retry_after_s is not None:
        return f"try again in {error.retry_after_s:.0f} s"
    return _ADVICE.get(error.code, "").format(agent=error.agent or "AGENT")
