"""What an agent in a sandbox may read: conversations that its session answers in right now."""

from starlette.requests import Request
from starlette.routing import Route

from trunkline.control.conversations import Conversations
from trunkline.control.services import ControlServices
from trunkline.protocol.ids import AgentName, ProjectName


def own_conversations(services: ControlServices) -> list[Route]:
    """Return the routes; a request's state has the ``session`` whose agent asks."""

    async def admit(request: Request) -> tuple[str, ProjectName, AgentName]:
        # Which session it is, is known by the sandbox the connection came from.
        return await services.admit_agent(request, request.state.session)

    return Conversations(services, admit).reading_routes()
