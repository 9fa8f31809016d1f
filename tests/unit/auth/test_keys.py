"""What keys verify, and in which form a signature has to be."""

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, strategies as st

from trunkline.auth import keys
from trunkline.auth.keys import ALGORITHMS, PublicKey

CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


def private_key(kind: str, curve: str) -> jwt.algorithms.AllowedPrivateKeys:
    if kind == "EC":
        return ec.generate_private_key(CURVES[curve])
    if kind == "OKP":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_signature_of_the_key_and_no_other(name: str) -> None:
    private = private_key(*ALGORITHMS[name])
    algorithm = jwt.get_algorithm_by_name(name)
    public = PublicKey(algorithm.to_jwk(private.public_key(), as_dict=True))
    signature = algorithm.sign(b"said", private)
    assert public.verifies(name, b"said", signature)
    assert not public.verifies(name, b"sand", signature)
    changed = bytearray(signature)
    changed[-1] ^= 1
    for other in (b"", bytes(changed), signature[:-1], signature + b"\0", bytes(len(signature))):
        assert not public.verifies(name, b"said", other)
    for another in ("none", "HS256", *(ALGORITHMS.keys() - public.algorithms)):
        assert not public.verifies(another, b"said", signature)


def test_a_signature_in_openssls_own_form_is_none() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    algorithm = jwt.get_algorithm_by_name("ES256")
    public = PublicKey(algorithm.to_jwk(private.public_key(), as_dict=True))
    assert not public.verifies("ES256", b"said", private.sign(b"said", ec.ECDSA(hashes.SHA256())))


@pytest.mark.parametrize("size", [32, 48, 66])
@given(data=st.data())
def test_two_numbers_become_what_openssl_takes(size: int, data: st.DataObject) -> None:
    numbers = st.integers(0, 2 ** (8 * size) - 1) | st.integers(0, 255)
    first, second = data.draw(numbers), data.draw(numbers)
    made = keys._sequence(first.to_bytes(size, "big"), second.to_bytes(size, "big"))
    assert made == encode_dss_signature(first, second)
