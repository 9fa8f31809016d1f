"""API keys, revocations and renewals on a SQL database."""

import datetime as dt
import json
from collections.abc import Sequence

from trunkline.protocol.ids import ProjectName, SessionKey
from trunkline.store.records import ApiKeyRecord, RevocationRecord
from trunkline.store.sql.engine import Db, Engine, Row, first
from trunkline.store.sql.rows import key_of, text_of


class SqlCredentials:
    """The part of the store that keeps what callers may and may no longer come in with."""

    _engine: Engine

    async def add_api_key(self, record: ApiKeyRecord) -> None:
        await self._engine.step(
            "add_api_key",
            key_id=record.key_id,
            project=record.project,
            label=record.name,
            digest=record.digest,
            grants=json.dumps(list(record.grants)),
            created_by=record.created_by,
            created_at=text_of(record.created_at),
            expires_at=text_of(record.expires_at),
        )

    async def find_api_key(self, key_id: str) -> ApiKeyRecord | None:
        row = await self._engine.read(lambda db: first(db.rows("find_api_key", key_id=key_id)))
        return _api_key_from(row) if row else None

    async def list_api_keys(self, project: ProjectName) -> Sequence[ApiKeyRecord]:
        rows = await self._engine.read(lambda db: db.rows("list_api_keys", project=project))
        return [_api_key_from(row) for row in rows]

    async def revoke_api_key(self, project: ProjectName, revocation: RevocationRecord) -> bool:
        def revoke(db: Db) -> bool:
            if not db.rows("remove_api_key", project=project, key_id=revocation.subject):
                return False
            db.rows("add_revocation", **_values_of(revocation))
            return True

        return await self._engine.write(revoke)

    async def add_revocation(self, record: RevocationRecord) -> None:
        await self._engine.step("add_revocation", **_values_of(record))

    async def list_revocations(self) -> Sequence[RevocationRecord]:
        rows = await self._engine.read(lambda db: db.rows("list_revocations"))
        return [
            RevocationRecord(
                issuer=row["issuer"],
                subject=row["subject"],
                revoked_at=dt.datetime.fromisoformat(row["revoked_at"]),
                revoked_by=row["revoked_by"],
            )
            for row in rows
        ]

    async def add_renewal(self, key: SessionKey, identity: str, expires_at: dt.datetime) -> None:
        await self._engine.step(
            "add_renewal", **key_of(key), identity=identity, expires_at=text_of(expires_at)
        )

    async def find_renewal(self, key: SessionKey, identity: str) -> dt.datetime | None:
        row = await self._engine.read(
            lambda db: first(db.rows("find_renewal", **key_of(key), identity=identity))
        )
        return dt.datetime.fromisoformat(row["expires_at"]) if row else None

    async def forget_credentials(
        self, *, renewals_before: dt.datetime, revocations_before: dt.datetime
    ) -> None:
        def forget(db: Db) -> None:
            db.rows("forget_renewals", before=text_of(renewals_before))
            db.rows("forget_revocations", before=text_of(revocations_before))

        await self._engine.write(forget)


def _values_of(record: RevocationRecord) -> dict[str, str]:
    return {
        "issuer": record.issuer,
        "subject": record.subject,
        "revoked_at": text_of(record.revoked_at),
        "revoked_by": record.revoked_by,
    }


def _api_key_from(row: Row) -> ApiKeyRecord:
    return ApiKeyRecord(
        key_id=row["key_id"],
        project=ProjectName(row["project"]),
        name=row["name"],
        digest=row["digest"],
        grants=tuple(json.loads(row["grants"])),
        created_by=row["created_by"],
        created_at=dt.datetime.fromisoformat(row["created_at"]),
        expires_at=dt.datetime.fromisoformat(row["expires_at"]),
    )
