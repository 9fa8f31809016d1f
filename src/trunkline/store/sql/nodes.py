"""The processes that share the store, on a SQL database."""

import datetime as dt
from collections.abc import Sequence

from trunkline.protocol.ids import NodeId
from trunkline.store.records import NodeRecord
from trunkline.store.sql.engine import Db, Engine, first
from trunkline.store.sql.rows import node_from, text_of


class SqlNodes:
    """The part of the store that keeps nodes."""

    _engine: Engine

    async def state_id(self, own: str) -> str:
        def settle(db: Db) -> str:
            db.rows("set_state_id", id=own)
            row = first(db.rows("find_state_id"))
            assert row is not None, "it was just set"
            return str(row["id"])

        return await self._engine.write(settle)

    async def add_node(self, node: NodeId, at: dt.datetime, url: str) -> None:
        await self._engine.step("add_node", node=node, at=text_of(at), url=url)

    async def heartbeat(self, node: NodeId, at: dt.datetime) -> bool:
        return bool(await self._engine.sign("heartbeat", node=node, at=text_of(at)))

    async def find_node(self, node: NodeId) -> NodeRecord | None:
        row = await self._engine.read(lambda db: first(db.rows("find_node", node=node)))
        return node_from(row) if row else None

    async def list_nodes(self) -> Sequence[NodeRecord]:
        rows = await self._engine.read(lambda db: db.rows("list_nodes"))
        return [node_from(row) for row in rows]

    async def remove_node(self, node: NodeId, *, heard_at: dt.datetime | None = None) -> bool:
        heard = None if heard_at is None else text_of(heard_at)
        # Alone, so that who looks for a node and then relies on it finds it there.
        return bool(
            await self._engine.write(lambda db: db.rows("remove_node", node=node, heard_at=heard))
        )

    async def orphan_holders(self) -> Sequence[NodeId]:
        rows = await self._engine.read(lambda db: db.rows("orphan_holders"))
        return [NodeId(row["holder"]) for row in rows]

    async def release_orphans(self, node: NodeId) -> None:
        await self._engine.write(lambda db: db.rows("release_orphans", node=node))
