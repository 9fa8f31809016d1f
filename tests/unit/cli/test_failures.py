"""One line and an exit code for everything that can go wrong."""

import pytest

from trunkline.cli.exits import ExitCode
from trunkline.cli.failures import describe
from trunkline.client import (
    BadAnswerError,
    Endpoint,
    InsecureEndpointError,
    MissingTokenError,
    RefusedError,
    UnreachableError,
)
from trunkline.config import SettingsError
from trunkline.manifest.errors import ManifestError, PackageError
from trunkline.protocol.errors import InvalidRequestError

REMOTE = Endpoint.parse("http://10.0.0.1/")


def refused(status: int, code: str, **header: str) -> RefusedError:
    return RefusedError(status, code, "it said no.", header)


@pytest.mark.parametrize(
    ("error", "part", "code"),
    [
        (
            UnreachableError("http://127.0.0.1:8080"),
            "nothing answers at http://127.0.0.1:8080: start it with `trunkline up`, or name "
            "another platform with --endpoint",
            1,
        ),
        (UnreachableError("http://x", "reset", is_connected=True), "run the command again", 1),
        (
            UnreachableError("https://x", "[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"),
            "authority in SSL_CERT_FILE",
            1,
        ),
        (refused(401, "unauthenticated"), "it said no: set TRUNKLINE_TOKEN", 1),
        (refused(404, "agent_not_found"), "`trunkline list`", 1),
        (refused(424, "session_not_ready"), "`trunkline monitor AGENT` shows why", 1),
        (refused(503, "unavailable", **{"retry-after": "7"}), "try again in 7 s", 1),
        (refused(409, "conflict"), "it said no.", 1),
        (BadAnswerError("odd"), "odd", 1),
        (MissingTokenError(), "TRUNKLINE_TOKEN", 1),
        (InsecureEndpointError(REMOTE), "--insecure-http", 2),
        (InvalidRequestError("bad id"), "bad id", 2),
        (SettingsError(["a", "b"]), "a\nb", 2),
        (ManifestError.of_file("agent.yaml", "no name"), "agent.yaml: no name", 2),
        (PackageError("too big"), "too big", 2),
        (FileNotFoundError(2, "No such file or directory", "x.wav"), "x.wav", 1),
        (KeyError("x"), "trunkline itself broke: KeyError: 'x': run it again with --debug", 1),
    ],
)
def test_describes(error: Exception, part: str, code: int) -> None:
    line, exit_code = describe(error)
    assert part in line
    assert exit_code == code
    assert isinstance(exit_code, ExitCode)


def test_the_platforms_own_advice_is_enough() -> None:
    error = RefusedError(404, "agent_not_found", "no agent; `trunkline list` shows them", {})
    assert describe(error)[0] == "no agent; `trunkline list` shows them"
