"""What every store does with a project's secrets."""

import datetime as dt

from tests.conformance.store.test_store import PROJECT, T0
from trunkline.protocol.ids import ProjectName
from trunkline.store.interface import Store
from trunkline.store.records import SecretRecord


def secret(name: str, sealed: str = "v1.x", project: ProjectName = PROJECT) -> SecretRecord:
    return SecretRecord(
        project=project, name=name, sealed=sealed, updated_at=T0, updated_by="i|dora"
    )


async def test_secrets_are_kept_by_name_and_replaced(store: Store) -> None:
    other = ProjectName("other")
    for record in (secret("B"), secret("A"), secret("A", "v1.other", other)):
        await store.put_secret(record)
    assert [r.name for r in await store.list_secrets(PROJECT)] == ["A", "B"]
    later = SecretRecord(
        project=PROJECT, name="A", sealed="v1.y", updated_at=T0 + dt.timedelta(hours=1),
        updated_by="i|ada",
    )  # fmt: skip
    await store.put_secret(later)
    assert await store.find_secret(PROJECT, "A") == later
    assert await store.find_secret(other, "A") == secret("A", "v1.other", other)
    assert await store.find_secret(PROJECT, "C") is None
    assert await store.remove_secret(PROJECT, "A")
    assert not await store.remove_secret(PROJECT, "A")
    assert await store.find_secret(other, "A") is not None
