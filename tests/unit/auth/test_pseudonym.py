"""Names for users that agents may see."""

import re
import stat
from pathlib import Path

from trunkline.auth.identity import Identity
from trunkline.auth.pseudonym import Pseudonyms

ANNA = Identity("urn:issuer", "anna")


def test_a_pseudonym_is_stable_and_opaque(tmp_path: Path) -> None:
    name = Pseudonyms.open(tmp_path).of(ANNA)
    assert re.fullmatch("[0-9a-f]{32}", name)
    assert Pseudonyms.open(tmp_path).of(ANNA) == name


def test_each_user_has_another() -> None:
    names = Pseudonyms(b"k" * 32)
    people = [ANNA, Identity("urn:issuer", "berta"), Identity("urn:other", "anna")]
    assert len({names.of(person) for person in people}) == 3


def test_each_installation_has_others(tmp_path: Path) -> None:
    one, two = Pseudonyms.open(tmp_path / "one"), Pseudonyms.open(tmp_path / "two")
    assert one.of(ANNA) != two.of(ANNA)


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    Pseudonyms.open(tmp_path / "state")
    (key,) = (tmp_path / "state").iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_bytes()) == 32


def test_two_installations_in_one_process_share_no_memory() -> None:
    one, two = Pseudonyms(b"1" * 32), Pseudonyms(b"2" * 32)
    first = one.of(ANNA)
    assert two.of(ANNA) != first
    assert one.of(ANNA) == first
