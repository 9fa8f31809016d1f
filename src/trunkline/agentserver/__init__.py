"""The host that runs inside an agent's sandbox and calls the agent's handlers.

Write an agent with :class:`InvocationAgentServerHost`. This package imports nothing of the
platform, only the names of the wire.
"""

import trunkline.agentserver._lean_imports  # noqa: F401 - before anything that imports those
from trunkline.agentserver._config import AgentConfig
from trunkline.agentserver._context import (
    RequestContext,
    get_request_context,
    reset_request_context,
    set_request_context,
)
from trunkline.agentserver._host import InvocationAgentServerHost

#: The same class under the name some samples use.
InvocationsAgentServerHost = InvocationAgentServerHost
#: The same class under the name the hosted-agents SDK uses.
FoundryAgentRequestContext = RequestContext

__all__ = [
    "AgentConfig",
    "FoundryAgentRequestContext",
    "InvocationAgentServerHost",
    "InvocationsAgentServerHost",
    "RequestContext",
    "get_request_context",
    "reset_request_context",
    "set_request_context",
]
