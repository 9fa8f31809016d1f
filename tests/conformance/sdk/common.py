"""What both of the scripts that drive the platform by Microsoft's SDK need.

They run in an environment of their own: nothing of trunkline is importable here.
"""

import io
import os
import time
import zipfile
from pathlib import Path
from typing import Any

from azure.ai.projects import models as m
from azure.core.credentials import AccessToken, AccessTokenInfo
from azure.core.pipeline.policies import SansIOHTTPPolicy

AGENT = "sdk-agent"
ENDPOINT = os.environ["SDK_ENDPOINT"]
TOKEN = os.environ["SDK_TOKEN"]
FOLDER = Path(__file__).parent / "agent"


class Credential:
    """Gives the one token it was given; Entra would give another each hour."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(TOKEN, int(time.time()) + 3600)

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        return AccessTokenInfo(TOKEN, int(time.time()) + 3600)


class AsyncCredential:
    """The same for the asynchronous client."""

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(TOKEN, int(time.time()) + 3600)

    async def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        return AccessTokenInfo(TOKEN, int(time.time()) + 3600)

    async def close(self) -> None:
        return None

    async def __aenter__(self) -> "AsyncCredential":
        return self

    async def __aexit__(self, *error: object) -> None:
        return None


class PlainBearer(SansIOHTTPPolicy[Any, Any]):
    """Sends the token over plain HTTP, which the SDK's own policy refuses even on loopback."""

    def on_request(self, request: Any) -> None:
        request.http_request.headers["Authorization"] = f"Bearer {TOKEN}"


def package(salt: str = "") -> io.BytesIO:
    """Return a zip of the agent's folder; another salt makes it another version."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        # A ZipInfo of one's own always has the same date, so that equal zips are equal.
        source = (FOLDER / "main.py").read_text() + f"# {salt}\n"
        archive.writestr(zipfile.ZipInfo("main.py"), source)
        archive.writestr(zipfile.ZipInfo("requirements.txt"), "trunkline\n")
    file.seek(0)
    file.name = "agent.zip"
    return file


def definition(**changes: Any) -> m.HostedAgentDefinition:
    """Return the definition of the agent in the folder."""
    values: dict[str, Any] = {
        "cpu": "1",
        "memory": "2Gi",
        "code_configuration": m.CodeConfiguration(
            runtime="python_3_13", entry_point=["python", "main.py"],
            dependency_resolution="remote_build",
        ),
        "protocol_versions": [
            m.ProtocolVersionRecord(protocol=name, version=version)
            for name, version in (
                ("invocations_ws", "1.0.0"), ("invocations", "2.0.0"), ("responses", "2.0.0"),
            )
        ],
        "environment_variables": {"GREETING": "hi"},
    }  # fmt: skip
    return m.HostedAgentDefinition(**{**values, **changes})


def check(condition: object, what: object) -> None:
    """Fail with what was seen."""
    if not condition:
        raise AssertionError(what)
