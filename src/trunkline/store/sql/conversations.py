"""Conversations, and which session a response came from, on a SQL database."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.protocol.ids import AgentName, ProjectName, SessionId
from trunkline.store.paging import Page, PageOf
from trunkline.store.records import ConversationKey, ConversationRecord, ResponseRecord
from trunkline.store.sql.engine import Db, Engine, Row, first
from trunkline.store.sql.pages import Listing, read_page
from trunkline.store.sql.rows import json_of, text_of

_ITEMS = Listing("list_items", "find_item", "item_id", ("seq",))


class SqlConversations:
    """The part of the store that keeps what was said."""

    _engine: Engine

    async def add_conversation(
        self,
        key: ConversationKey,
        owner: str,
        metadata: Mapping[str, str],
        items: Sequence[Mapping[str, Any]] = (),
    ) -> ConversationRecord:
        def add(db: Db) -> ConversationRecord:
            now = text_of(dt.datetime.now(dt.UTC))
            rows = db.rows(
                "add_conversation", **_key(key), owner=owner, now=now, metadata=json_of(metadata)
            )
            _append(db, key, items)
            return _conversation(rows[0])

        return await self._engine.write(add)

    async def find_conversation(self, key: ConversationKey) -> ConversationRecord | None:
        row = await self._engine.read(lambda db: first(db.rows("find_conversation", **_key(key))))
        return _conversation(row) if row else None

    async def update_conversation(
        self,
        key: ConversationKey,
        *,
        metadata: Mapping[str, str] | None = None,
        session_id: SessionId | None = None,
    ) -> ConversationRecord | None:
        rows = await self._engine.step(
            "update_conversation",
            **_key(key),
            metadata=json_of(metadata),
            session_id=session_id,
        )
        row = first(rows)
        return _conversation(row) if row else None

    async def remove_conversation(self, key: ConversationKey) -> None:
        def remove(db: Db) -> None:
            db.rows("remove_items", **_key(key))
            db.rows("remove_conversation", **_key(key))

        await self._engine.write(remove)

    async def add_items(self, key: ConversationKey, items: Sequence[Mapping[str, Any]]) -> bool:
        return await self._engine.write(lambda db: _append(db, key, items))

    async def find_item(self, key: ConversationKey, item_id: str) -> Mapping[str, Any] | None:
        row = await self._engine.read(
            lambda db: first(db.rows("find_item", **_key(key), item_id=item_id))
        )
        return _item(row) if row else None

    async def list_items(self, key: ConversationKey, page: Page) -> PageOf[Mapping[str, Any]]:
        return await self._engine.read(lambda db: read_page(db, _ITEMS, page, _item, **_key(key)))

    async def remove_item(self, key: ConversationKey, item_id: str) -> bool:
        rows = await self._engine.step("remove_item", **_key(key), item_id=item_id)
        return bool(rows)

    async def add_response(self, record: ResponseRecord) -> None:
        await self._engine.step(
            "add_response",
            project=record.project,
            agent=record.agent,
            response_id=record.response_id,
            owner=record.owner,
            session_id=record.session_id,
            now=text_of(dt.datetime.now(dt.UTC)),
        )

    async def find_response(
        self, project: ProjectName, agent: AgentName, response_id: str
    ) -> ResponseRecord | None:
        row = await self._engine.read(
            lambda db: first(
                db.rows("find_response", project=project, agent=agent, response_id=response_id)
            )
        )
        if row is None:
            return None
        return ResponseRecord(
            project=project,
            agent=agent,
            response_id=row["response_id"],
            owner=row["owner"],
            session_id=SessionId(row["session_id"]),
        )


def _append(db: Db, key: ConversationKey, items: Sequence[Mapping[str, Any]]) -> bool:
    taken = first(db.rows("take_items", **_key(key), count=len(items)))
    if taken is None:
        return False
    begin = taken["next_seq"] - len(items)
    for offset, item in enumerate(items):
        db.rows(
            "add_item",
            **_key(key),
            seq=begin + offset,
            item_id=item["id"],
            item=json.dumps(dict(item)),
        )
    return True


def _key(key: ConversationKey) -> dict[str, str]:
    return {
        "project": key.project,
        "agent": key.agent,
        "conversation_id": key.conversation_id,
    }


def _item(row: Row) -> Mapping[str, Any]:
    value: dict[str, Any] = json.loads(row["item"])
    return value


def _conversation(row: Row) -> ConversationRecord:
    return ConversationRecord(
        key=ConversationKey(
            ProjectName(row["project"]), AgentName(row["agent"]), row["conversation_id"]
        ),
        owner=row["owner"],
        created_at=dt.datetime.fromisoformat(row["created_at"]),
        metadata=json.loads(row["metadata"]),
        session_id=None if row["session_id"] is None else SessionId(row["session_id"]),
    )
