"""Conversations of the ``responses`` protocol: made, read and changed by their owners.

An agent reads the conversation of a request it is answering with the request's call id.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.auth.grants import Permission
from trunkline.control.paging import page_of
from trunkline.control.services import ControlServices
from trunkline.manifest.vocabulary import metadata_fault
from trunkline.protocol.errors import (
    AgentNotFoundError,
    ConversationNotFoundError,
    InvalidRequestError,
)
from trunkline.protocol.ids import AgentName, ProjectName
from trunkline.protocol.response_items import input_items, is_item_id
from trunkline.sessions.ownership import owner_with
from trunkline.store.interface import Store
from trunkline.store.records import ConversationKey, ConversationRecord
from trunkline.web.body import json_object

_PREFIX = "/api/projects/{project}/agents/{agent}/endpoint/protocols/openai"
_MAX_ITEMS = 20
_SPELLINGS = ("conversations", "v1/conversations")

#: Says on whose behalf a request is, and for which agent.
Admit = Callable[[Request], Awaitable[tuple[str, ProjectName, AgentName]]]


class Conversations:
    """The operations on conversations, under both spellings of their path."""

    def __init__(self, services: ControlServices, admit: Admit | None = None) -> None:
        """Prepare.

        Args:
            services: The pieces the control plane asks.
            admit: Tells whose conversations a request is about, and with which agent.
        """
        self._services = services
        self._admit = admit or services.admit_call

    @property
    def _store(self) -> Store:
        return self._services.store

    def routes(self) -> list[Route]:
        found = []
        for spelling in _SPELLINGS:
            path = f"{_PREFIX}/{spelling}"
            one = f"{path}/{{conversation}}"
            items = f"{one}/items"
            found += [
                Route(path, self.create_conversation, methods=["POST"]),
                Route(one, self.get_conversation, methods=["GET"]),
                Route(one, self.update_conversation, methods=["POST"]),
                Route(one, self.delete_conversation, methods=["DELETE"]),
                Route(items, self.list_items, methods=["GET"]),
                Route(items, self.create_items, methods=["POST"]),
                Route(f"{items}/{{item}}", self.get_item, methods=["GET"]),
                Route(f"{items}/{{item}}", self.delete_item, methods=["DELETE"]),
            ]
        return found

    def reading_routes(self) -> list[Route]:
        """Return those of the routes that change nothing, and list no conversations."""
        found = []
        for spelling in _SPELLINGS:
            one = f"{_PREFIX}/{spelling}/{{conversation}}"
            found += [
                Route(one, self.get_conversation, methods=["GET"]),
                Route(f"{one}/items", self.list_items, methods=["GET"]),
                Route(f"{one}/items/{{item}}", self.get_item, methods=["GET"]),
            ]
        return found

    async def create_conversation(self, request: Request) -> Response:
        caller, project, agent = await self._services.admit_to_agent(request, Permission.USE)
        owner = await owner_with(self._store, project, agent, caller)
        if await self._store.find_agent(project, agent) is None:
            raise AgentNotFoundError(f"no agent {agent!r} in project {project!r}")
        body = await json_object(request, may_be_empty=True)
        record = await self._store.add_conversation(
            ConversationKey(project, agent, f"conv_{secrets.token_hex(24)}"),
            owner,
            _metadata_in(body) or {},
            _items_in(body),
        )
        return JSONResponse(_shape(record))

    async def get_conversation(self, request: Request) -> Response:
        return JSONResponse(_shape(await self._find(request)))

    async def update_conversation(self, request: Request) -> Response:
        record = await self._find(request)
        metadata = _metadata_in(await json_object(request))
        changed = await self._store.update_conversation(record.key, metadata=metadata)
        if changed is None:
            raise _missing()
        return JSONResponse(_shape(changed))

    async def delete_conversation(self, request: Request) -> Response:
        record = await self._find(request)
        await self._store.remove_conversation(record.key)
        return JSONResponse(
            {
                "id": record.key.conversation_id,
                "object": "conversation.deleted",
                "deleted": True,
            }
        )

    async def list_items(self, request: Request) -> Response:
        record = await self._find(request)
        page = await self._store.list_items(record.key, page_of(request.query_params))
        return JSONResponse(_list(page.items, has_more=page.has_more))

    async def create_items(self, request: Request) -> Response:
        record = await self._find(request)
        items = _items_in(await json_object(request))
        if not items:
            raise InvalidRequestError("items must be a list of items", param="items")
        if not await self._store.add_items(record.key, items):
            raise _missing()
        return JSONResponse(_list(items, has_more=False))

    async def get_item(self, request: Request) -> Response:
        record = await self._find(request)
        item_id = request.path_params["item"]
        item = await self._store.find_item(record.key, item_id) if is_item_id(item_id) else None
        if item is None:
            raise ConversationNotFoundError("the conversation has no such item")
        return JSONResponse(dict(item))

    async def delete_item(self, request: Request) -> Response:
        record = await self._find(request)
        item_id = request.path_params["item"]
        if not is_item_id(item_id) or not await self._store.remove_item(record.key, item_id):
            raise ConversationNotFoundError("the conversation has no such item")
        return JSONResponse(_shape(record))

    async def _find(self, request: Request) -> ConversationRecord:
        owner, project, agent = await self._admit(request)
        conversation_id = request.path_params["conversation"]
        if not is_item_id(conversation_id):
            raise _missing()
        record = await self._store.find_conversation(
            ConversationKey(project, agent, conversation_id)
        )
        if record is None or record.owner != owner:
            raise _missing()
        return record


def _missing() -> ConversationNotFoundError:
    return ConversationNotFoundError("you have no such conversation with the agent")


def _metadata_in(body: Mapping[str, Any]) -> Mapping[str, str] | None:
    metadata = body.get("metadata")
    if metadata is None:
        return None
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise InvalidRequestError("metadata must be an object of texts", param="metadata")
    if fault := metadata_fault(metadata):
        raise InvalidRequestError(f"metadata {fault}", param="metadata")
    return metadata


def _items_in(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    items = body.get("items")
    if isinstance(items, str):
        raise InvalidRequestError("items must be a list of items", param="items")
    found = input_items(items, lambda: f"msg_{secrets.token_hex(24)}", param="items")
    if len(found) > _MAX_ITEMS:
        raise InvalidRequestError(f"items may be {_MAX_ITEMS} at a time", param="items")
    return found


def _shape(record: ConversationRecord) -> dict[str, Any]:
    return {
        "id": record.key.conversation_id,
        "object": "conversation",
        "created_at": int(record.created_at.timestamp()),
        "metadata": dict(record.metadata),
    }


def _list(items: Any, *, has_more: bool) -> dict[str, Any]:
    # Unlike the lists of agents, these say where they end on the last page, too: so does OpenAI.
    return {
        "object": "list",
        "data": [dict(item) for item in items],
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }
