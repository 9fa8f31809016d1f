"""The audit log on a SQL database."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from trunkline.protocol.ids import ProjectName
from trunkline.store.records import AuditFilter, AuditRecord
from trunkline.store.sql.engine import Db, Engine
from trunkline.store.sql.rows import readable, text_of

_COLUMNS = AuditRecord._fields
_AT = _COLUMNS.index("at")
#: Sorts behind every time there is.
_LAST = "~"


def _row_of(record: AuditRecord) -> list[Any]:
    # Who sends a request may choose some of it, and one entry that can't be kept would keep all
    # behind it out.
    row = [readable(value) if isinstance(value, str) else value for value in record]
    row[_AT] = text_of(record.at)
    return row


class SqlAudit:
    """The part of the store that keeps who did what."""

    _engine: Engine

    async def add_audit(self, records: Sequence[AuditRecord]) -> None:
        def add(db: Db) -> None:
            db.insert("add_audit", _COLUMNS, [_row_of(record) for record in records])

        await self._engine.write(add)

    async def list_audit(
        self,
        project: ProjectName | None,
        wanted: AuditFilter,
        *,
        limit: int,
        before: str | None = None,
    ) -> Sequence[AuditRecord]:
        # Two statements: with one for both, no index would be of use.
        name, where = (
            ("list_all_audit", {}) if project is None else ("list_audit", {"project": project})
        )
        rows = await self._engine.read(
            lambda db: db.rows(name, **where, before=before or _LAST, limit=limit, **asdict(wanted))
        )
        return [
            AuditRecord(**{**dict(row), "at": dt.datetime.fromisoformat(row["at"])}) for row in rows
        ]

    async def forget_audit(self, before: dt.datetime) -> None:
        await self._engine.write(lambda db: db.rows("forget_audit", before=text_of(before)))
