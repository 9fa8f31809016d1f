"""Secrets are unreadable where they are stored, and open only where they belong."""

import base64
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trunkline.auth.secret_box import SecretBox, SecretKeyError
from trunkline.auth.settings import AuthSettings

ONE, TWO = (bytes([n]) * 32 for n in (1, 2))
VALUE = "sk-very-secret ü"


def test_a_value_opens_in_its_place_only() -> None:
    box = SecretBox([ONE])
    sealed = box.seal(VALUE, "project", "agent", "NAME")
    assert VALUE not in sealed
    assert box.unseal(sealed, "project", "agent", "NAME") == VALUE
    assert box.seal(VALUE, "project", "agent", "NAME") != sealed
    for place in (("project", "agent", "OTHER"), ("project", "other", "NAME"),
                  ("projectagent", "NAME"), ("project", "agent\0NAME", "")):  # fmt: skip
        with pytest.raises(SecretKeyError, match="doesn't open"):
            box.unseal(sealed, *place)


def test_what_was_changed_does_not_open() -> None:
    box = SecretBox([ONE])
    version, key_id, text = box.seal(VALUE, "p").split(".")
    data = bytearray(base64.b64decode(text))
    for index in (0, 12, len(data) - 1):
        changed = bytearray(data)
        changed[index] ^= 1
        with pytest.raises(SecretKeyError):
            box.unseal(f"{version}.{key_id}.{base64.b64encode(changed).decode()}", "p")
    for broken in ("", "v1", f"v1.{key_id}", f"v1.{key_id}.", f"v1.{key_id}.!", f"v2.{key_id}.A"):
        with pytest.raises(SecretKeyError):
            box.unseal(broken, "p")


def test_a_key_can_be_changed() -> None:
    old = SecretBox([ONE]).seal(VALUE, "p")
    both = SecretBox([TWO, ONE])
    assert both.unseal(old, "p") == VALUE
    new = both.seal(VALUE, "p")
    assert SecretBox([TWO]).unseal(new, "p") == VALUE
    with pytest.raises(SecretKeyError, match="a key that isn't here"):
        SecretBox([ONE]).unseal(new, "p")


def test_equal_values_are_known_by_their_fingerprints_to_who_has_the_key() -> None:
    one, two = SecretBox([ONE]), SecretBox([TWO])
    assert one.fingerprint(VALUE) == one.fingerprint(VALUE)
    assert one.fingerprint(VALUE) != one.fingerprint("other")
    assert one.fingerprint(VALUE) != two.fingerprint(VALUE)


def test_the_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        boxes = list(threads.map(lambda _: SecretBox.open(AuthSettings(), tmp_path), range(8)))
    sealed = boxes[0].seal(VALUE, "p")
    assert {box.unseal(sealed, "p") for box in boxes} == {VALUE}
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_keys_may_come_from_a_file_or_a_command(tmp_path: Path) -> None:
    text = "\n".join(base64.b64encode(key).decode() for key in (TWO, ONE))
    file = tmp_path / "keys"
    file.write_text(text)
    old = SecretBox([ONE]).seal(VALUE, "p")
    from_file = SecretBox.open(AuthSettings(secrets_key_file=file), tmp_path)
    command = (sys.executable, "-c", f"print({text!r})")
    from_command = SecretBox.open(AuthSettings(secrets_key_command=command), tmp_path)
    assert from_file.unseal(old, "p") == from_command.unseal(old, "p") == VALUE
    assert os.listdir(tmp_path) == ["keys"]


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(b"x" * 31).decode(), "!" * 44])
def test_keys_that_are_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(SecretKeyError) as caught:
        SecretBox.open(AuthSettings(secrets_key_file=file), tmp_path)
    assert not text or text not in str(caught.value)
    command = (sys.executable, "-c", "raise SystemExit(3)")
    with pytest.raises(SecretKeyError, match="ended with 3"):
        SecretBox.open(AuthSettings(secrets_key_command=command), tmp_path)
    with pytest.raises(SecretKeyError, match="can't read"):
        SecretBox.open(AuthSettings(secrets_key_file=tmp_path / "absent"), tmp_path)
