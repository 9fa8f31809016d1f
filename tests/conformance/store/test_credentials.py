"""What every store does with API keys, revocations and renewals."""

import datetime as dt
import sqlite3
from typing import cast

import psycopg
import pytest

from tests.conformance.store.test_store import PROJECT, T0, key
from trunkline.protocol.ids import ProjectName
from trunkline.store.interface import Store
from trunkline.store.records import ApiKeyRecord, RevocationRecord

HOUR = dt.timedelta(hours=1)


def api_key(key_id: str, project: ProjectName = PROJECT, *, age: int = 0) -> ApiKeyRecord:
    return ApiKeyRecord(
        key_id=key_id, project=project, name="nightly", digest="d" * 64,
        grants=("invoker@default", "reader@default"), created_by="i|ada",
        created_at=T0 - age * HOUR, expires_at=T0 + HOUR,
    )  # fmt: skip


def revoked(subject: str, at: dt.datetime = T0, by: str = "i|ada") -> RevocationRecord:
    return RevocationRecord(issuer="i", subject=subject, revoked_at=at, revoked_by=by)


async def test_api_keys_are_a_projects(store: Store) -> None:
    other = ProjectName("other")
    for record in (api_key("one"), api_key("two", age=1), api_key("three", other)):
        await store.add_api_key(record)
    assert await store.find_api_key("one") == api_key("one")
    assert await store.find_api_key("none") is None
    assert [r.key_id for r in await store.list_api_keys(PROJECT)] == ["one", "two"]
    assert not await store.revoke_api_key(PROJECT, revoked("three"))
    assert not await store.list_revocations()
    assert await store.revoke_api_key(other, revoked("three"))
    assert not await store.revoke_api_key(other, revoked("three", T0 + HOUR))
    assert await store.find_api_key("three") is None
    assert list(await store.list_revocations()) == [revoked("three")]


async def test_a_key_whose_revocation_cannot_be_kept_stays(store: Store) -> None:
    await store.add_api_key(api_key("one"))
    # The statement that removes the key has run when the database refuses this.
    unfit = revoked("one", by=cast("str", None))
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        await store.revoke_api_key(PROJECT, unfit)
    assert await store.find_api_key("one") == api_key("one")
    assert not await store.list_revocations()


async def test_a_later_revocation_replaces_an_earlier_one(store: Store) -> None:
    await store.add_revocation(revoked("olga", T0, "i|ada"))
    await store.add_revocation(revoked("otto", T0 - HOUR, "i|ada"))
    await store.add_revocation(revoked("olga", T0 + HOUR, "i|bob"))
    assert list(await store.list_revocations()) == [
        revoked("olga", T0 + HOUR, "i|bob"), revoked("otto", T0 - HOUR, "i|ada"),
    ]  # fmt: skip
    await store.forget_credentials(renewals_before=T0, revocations_before=T0)
    assert [r.subject for r in await store.list_revocations()] == ["olga"]


async def test_a_renewal_is_one_identitys_for_one_session(store: Store) -> None:
    await store.add_renewal(key("s1"), "i|olga", T0)
    await store.add_renewal(key("s1"), "i|olga", T0 + HOUR)
    await store.add_renewal(key("s1"), "i|otto", T0 - HOUR)
    assert await store.find_renewal(key("s1"), "i|olga") == T0 + HOUR
    assert await store.find_renewal(key("s2"), "i|olga") is None
    await store.forget_credentials(renewals_before=T0, revocations_before=T0)
    assert await store.find_renewal(key("s1"), "i|otto") is None
    assert await store.find_renewal(key("s1"), "i|olga") == T0 + HOUR
