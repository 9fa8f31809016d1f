"""The store on any SQL database: what to ask is here, how to ask is the engine's."""

from trunkline.store.sql.agents import SqlAgents
from trunkline.store.sql.audit import SqlAudit
from trunkline.store.sql.conversations import SqlConversations
from trunkline.store.sql.credentials import SqlCredentials
from trunkline.store.sql.engine import Db, Engine
from trunkline.store.sql.nodes import SqlNodes
from trunkline.store.sql.secrets import SqlSecrets
from trunkline.store.sql.sessions import SqlSessions
from trunkline.store.sql.tickets import SqlTickets


class SqlStore(
    SqlAgents,
    SqlSessions,
    SqlConversations,
    SqlNodes,
    SqlTickets,
    SqlCredentials,
    SqlSecrets,
    SqlAudit,
):
    """The whole store. Each method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ping(self) -> None:
        def ask(db: Db) -> None:
            db.rows("ping")

        await self._engine.read(ask)

    async def aclose(self) -> None:
        await self._engine.aclose()
