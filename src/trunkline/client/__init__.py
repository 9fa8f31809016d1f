"""The Python client: talk to a hosted agent, and run the control operations.

::

    from trunkline.client import Project

    async with Project.from_environment() as project:
        async with project.connect("my-agent") as conversation:
            await conversation.send("hello")
            async for message in conversation:
                print(message)

Only what is listed in ``__all__`` is promised to stay.
"""

from trunkline.client._connect import ClosedError, Connection, Message
from trunkline.client._endpoint import (
    DEFAULT_ENDPOINT,
    Endpoint,
    EndpointError,
    InsecureEndpointError,
    resolve_endpoint,
)
from trunkline.client._errors import BadAnswerError, RefusedError, UnreachableError
from trunkline.client._events import EventParser, ServerEvent
from trunkline.client._files import SessionFiles
from trunkline.client._invoke import Invocation
from trunkline.client._logs import LogQuery, LogStream
from trunkline.client._models import Agent, File, Session, Version
from trunkline.client._project import BuildFailedError, Project
from trunkline.client._tokens import MissingTokenError, TokenSource

__all__ = [
    "DEFAULT_ENDPOINT",
    "Agent",
    "BadAnswerError",
    "BuildFailedError",
    "ClosedError",
    "Connection",
    "Endpoint",
    "EndpointError",
    "EventParser",
    "File",
    "InsecureEndpointError",
    "Invocation",
    "LogQuery",
    "LogStream",
    "Message",
    "MissingTokenError",
    "Project",
    "RefusedError",
    "ServerEvent",
    "Session",
    "SessionFiles",
    "TokenSource",
    "UnreachableError",
    "Version",
    "resolve_endpoint",
]
