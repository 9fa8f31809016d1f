"""Tickets on a SQL database."""

import datetime as dt
import json

from trunkline.protocol.ids import AgentName, ProjectName, SessionId, SessionKey
from trunkline.store.records import TicketRecord
from trunkline.store.sql.engine import Db, Engine, first
from trunkline.store.sql.rows import json_of, key_of, text_of


class SqlTickets:
    """The part of the store that keeps tickets."""

    _engine: Engine

    async def add_ticket(self, record: TicketRecord, now: dt.datetime) -> None:
        def add(db: Db) -> None:
            db.rows("forget_tickets", before=text_of(now))
            db.rows(
                "add_ticket",
                digest=record.digest,
                **key_of(record.key),
                origin=record.origin,
                caller=json_of(record.caller),
                expires_at=text_of(record.expires_at),
            )

        await self._engine.write(add)

    async def take_ticket(self, digest: str) -> TicketRecord | None:
        row = first(await self._engine.step("take_ticket", digest=digest))
        if row is None:
            return None
        return TicketRecord(
            digest=row["digest"],
            key=SessionKey(
                ProjectName(row["project"]), AgentName(row["agent"]), SessionId(row["session_id"])
            ),
            origin=row["origin"],
            caller=json.loads(row["caller"]),
            expires_at=dt.datetime.fromisoformat(row["expires_at"]),
        )
