"""The agent host's own fixtures serve here too."""

from tests.integration.agentserver.conftest import events, start_host

__all__ = ["events", "start_host"]
