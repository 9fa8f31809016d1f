"""The development issuer's key: one per state directory, whoever makes it."""

import hashlib
import json
import stat
import subprocess
import sys
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from trunkline.auth.issuer import DevelopmentIssuer
from trunkline.auth.pseudonym import Pseudonyms

_CHILD = """
import sys
from pathlib import Path
from trunkline.auth.issuer import DevelopmentIssuer
print("ready", flush=True)
sys.stdin.readline()
print(DevelopmentIssuer.open(Path(sys.argv[1])).public_jwk["kid"], flush=True)
"""


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    state_dir = tmp_path / "a" / "state"
    DevelopmentIssuer.open(state_dir)
    assert stat.S_IMODE((state_dir / "issuer.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
    assert [path.name for path in state_dir.iterdir()] == ["issuer.pem"]


@pytest.mark.parametrize("kind", ["issuer", "pseudonym"])
def test_threads_that_open_a_new_directory_at_once_get_one_key(tmp_path: Path, kind: str) -> None:
    together = Barrier(8)

    def open_it(_: int) -> object:
        together.wait()
        if kind == "issuer":
            return DevelopmentIssuer.open(tmp_path).public_jwk["kid"]
        return Pseudonyms.open(tmp_path)._key

    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(open_it, range(8)))
    assert len(keys) == 1
    (only,) = tmp_path.iterdir()
    assert stat.S_IMODE(only.stat().st_mode) == 0o600


def test_processes_that_open_a_new_directory_at_once_get_one_key(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CHILD, str(tmp_path)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        kids = {child.communicate("go\n")[0] for child in children}
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert kids == {DevelopmentIssuer.open(tmp_path).public_jwk["kid"] + "\n"}
    assert [path.name for path in tmp_path.iterdir()] == ["issuer.pem"]


def test_the_key_set_holds_no_private_part(tmp_path: Path) -> None:
    (jwk,) = DevelopmentIssuer.open(tmp_path).jwks()["keys"]
    assert set(jwk) == {"kty", "crv", "x", "y", "kid", "alg", "use"}


def test_the_key_id_is_the_keys_thumbprint(tmp_path: Path) -> None:
    jwk = DevelopmentIssuer.open(tmp_path).public_jwk
    text = f'{{"crv":"P-256","kty":"EC","x":{json.dumps(jwk["x"])},"y":{json.dumps(jwk["y"])}}}'
    digest = hashlib.sha256(text.encode()).digest()
    assert jwk["kid"] == urlsafe_b64encode(digest).decode().rstrip("=")


def test_a_key_of_another_kind_says_what_to_do(tmp_path: Path) -> None:
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (tmp_path / "issuer.pem").write_bytes(pem)
    with pytest.raises(TypeError, match="remove it"):
        DevelopmentIssuer.open(tmp_path)
