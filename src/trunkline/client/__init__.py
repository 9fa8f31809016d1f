"""The Python client: talk to a hosted agent, and run the control operations.

::

    from trunkline import client

    async with client.connect("my-agent") as conversation:
        await conversation.send("hello")
        async for message in conversation:
            print(message)

It comes back to the same session when the connection is lost. :func:`connect_sync` opens the same
for programs without asyncio. For the control operations, and for many conversations, make one
:class:`Project`.

Only what is listed in ``__all__`` is promised to stay.
"""

from trunkline.client._access import ProjectAccess
from trunkline.client._code import DownloadedCode
from trunkline.client._connect import ClosedError, Connection, Message
from trunkline.client._development import development_token
from trunkline.client._endpoint import (
    DEFAULT_ENDPOINT,
    AgentAddress,
    Endpoint,
    EndpointError,
    InsecureEndpointError,
    is_address,
    parse_agent_address,
    resolve_endpoint,
)
from trunkline.client._errors import BadAnswerError, RefusedError, UnreachableError
from trunkline.client._events import EventParser, ServerEvent
from trunkline.client._files import SessionFiles
from trunkline.client._frames import FrameTap
from trunkline.client._invoke import Invocation
from trunkline.client._logs import LogQuery, LogStream
from trunkline.client._models import (
    Agent,
    ApiKey,
    AuditEntry,
    EndedConnection,
    File,
    NewApiKey,
    Revocation,
    SecretName,
    Session,
    Version,
    VersionStart,
)
from trunkline.client._open import connect
from trunkline.client._project import BuildFailedError, Project
from trunkline.client._resume import DEFAULT_BACKOFF, RESUMABLE, Backoff, ResumingConnection
from trunkline.client._sync import SyncConversation, connect_sync
from trunkline.client._tokens import Credential, MissingTokenError, TokenSource

__all__ = [
    "DEFAULT_BACKOFF",
    "DEFAULT_ENDPOINT",
    "RESUMABLE",
    "Agent",
    "AgentAddress",
    "ApiKey",
    "AuditEntry",
    "Backoff",
    "BadAnswerError",
    "BuildFailedError",
    "ClosedError",
    "Connection",
    "Credential",
    "DownloadedCode",
    "EndedConnection",
    "Endpoint",
    "EndpointError",
    "EventParser",
    "File",
    "FrameTap",
    "InsecureEndpointError",
    "Invocation",
    "LogQuery",
    "LogStream",
    "Message",
    "MissingTokenError",
    "NewApiKey",
    "Project",
    "ProjectAccess",
    "RefusedError",
    "ResumingConnection",
    "Revocation",
    "SecretName",
    "ServerEvent",
    "Session",
    "SessionFiles",
    "SyncConversation",
    "TokenSource",
    "UnreachableError",
    "Version",
    "VersionStart",
    "connect",
    "connect_sync",
    "development_token",
    "is_address",
    "parse_agent_address",
    "resolve_endpoint",
]
