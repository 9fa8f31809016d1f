"""Modules that stand where Microsoft's package would be, and hold trunkline's host.

Microsoft's tests import the host, and some constants of the wire, by the names of their own
package. The constants are written out here: taken from trunkline they would agree with it whatever
they are.
"""

import sys
import types
from typing import NoReturn

import httpx2

from trunkline import agentserver

PACKAGE = "azure.ai.agentserver"
_EVENT = f"{PACKAGE}.invocations_ws"

_HEADERS = {
    "ERROR_DETAIL": "x-platform-error-detail",
    "ERROR_SOURCE": "x-platform-error-source",
    "FOUNDRY_CALL_ID": "x-agent-foundry-call-id",
    "PLATFORM_ERROR_TAG": "Azure.AI.AgentServer.PlatformError",
    "USER_ID": "x-agent-user-id",
}
_HTTP = {
    "INVOCATION_ID_HEADER": "x-agent-invocation-id",
    "SESSION_ID_HEADER": "x-agent-session-id",
}
_WEBSOCKET = {
    "ATTR_SPAN_CLOSE_CODE": f"{_EVENT}.close_code",
    "ATTR_SPAN_DURATION_MS": f"{_EVENT}.duration_ms",
    "ATTR_SPAN_ERROR_CODE": f"{_EVENT}.error.code",
    "ATTR_SPAN_SESSION_ID": f"{_EVENT}.session_id",
    "CLOSE_INTERNAL_ERROR": 1011,
    "CLOSE_NORMAL": 1000,
    "ROUTE_PATH": "/invocations_ws",
}


class Absent:
    """A name that trunkline doesn't have: importing it is free, using it fails the test."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *_args: object, **_options: object) -> NoReturn:
        raise AssertionError(f"there is no {self._name} in trunkline.agentserver")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self()


class StandIn(types.ModuleType):
    """A module in whose place nothing of Microsoft's may be."""

    def __init__(self, name: str, names: dict[str, object]) -> None:
        super().__init__(name)
        # A package without places to look in: whatever isn't a stand-in can't be imported.
        self.__path__: list[str] = []
        vars(self).update(names)

    def __getattr__(self, name: str) -> Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self.__name__}.{name}")


def install() -> None:
    """Put the modules where an import finds them."""
    host = agentserver.InvocationAgentServerHost
    modules: dict[str, dict[str, object]] = {
        "azure": {},
        "azure.ai": {},
        PACKAGE: {},
        f"{PACKAGE}.core": {
            "AgentServerHost": host,
            "FoundryAgentRequestContext": agentserver.FoundryAgentRequestContext,
            "get_request_context": agentserver.get_request_context,
            "reset_request_context": agentserver.reset_request_context,
            "set_request_context": agentserver.set_request_context,
        },
        f"{PACKAGE}.core._config": {"AgentConfig": agentserver.AgentConfig},
        f"{PACKAGE}.core._platform_headers": dict(_HEADERS),
        # Their conftest.py switches this off for every test.
        f"{PACKAGE}.core._tracing": {"_setup_distro_export": None},
        f"{PACKAGE}.invocations": {"InvocationAgentServerHost": host},
        f"{PACKAGE}.invocations._constants": {
            "InvocationConstants": types.SimpleNamespace(**_HTTP),
            "InvocationsWSConstants": types.SimpleNamespace(**_WEBSOCKET),
        },
        f"{PACKAGE}.invocations._invocation": {
            "_ERROR_SOURCE_PLATFORM": "platform",
            "_ERROR_SOURCE_UPSTREAM": "upstream",
        },
        f"{PACKAGE}.invocations._sse": {},
    }
    for name, names in modules.items():
        module = StandIn(name, names)
        sys.modules[name] = module
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)
    # Their test client, by the name it was maintained under before.
    sys.modules["httpx"] = httpx2


def intruders() -> list[str]:
    """Return the modules of Microsoft's that were loaded all the same."""
    return sorted(
        name
        for name, module in sys.modules.items()
        if name.partition(".")[0] in ("azure", "microsoft") and not isinstance(module, StandIn)
    )
