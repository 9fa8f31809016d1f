"""A project's secrets on a SQL database, which has them encrypted only."""

import datetime as dt
from collections.abc import Sequence

from trunkline.protocol.ids import ProjectName
from trunkline.store.records import SecretRecord
from trunkline.store.sql.engine import Engine, Row, first
from trunkline.store.sql.rows import text_of


class SqlSecrets:
    """The part of the store that keeps secrets."""

    _engine: Engine

    async def put_secret(self, record: SecretRecord) -> None:
        await self._engine.step(
            "put_secret",
            project=record.project,
            secret=record.name,
            sealed=record.sealed,
            updated_at=text_of(record.updated_at),
            updated_by=record.updated_by,
        )

    async def find_secret(self, project: ProjectName, name: str) -> SecretRecord | None:
        row = await self._engine.read(
            lambda db: first(db.rows("find_secret", project=project, secret=name))
        )
        return _secret_from(row) if row else None

    async def list_secrets(self, project: ProjectName) -> Sequence[SecretRecord]:
        rows = await self._engine.read(lambda db: db.rows("list_secrets", project=project))
        return [_secret_from(row) for row in rows]

    async def remove_secret(self, project: ProjectName, name: str) -> bool:
        return bool(await self._engine.step("remove_secret", project=project, secret=name))


def _secret_from(row: Row) -> SecretRecord:
    return SecretRecord(
        project=ProjectName(row["project"]),
        name=row["name"],
        sealed=row["sealed"],
        updated_at=dt.datetime.fromisoformat(row["updated_at"]),
        updated_by=row["updated_by"],
    )
