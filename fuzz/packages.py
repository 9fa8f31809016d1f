"""What strangers send to be deployed: zips and agent.yaml files."""

import io
import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["trunkline"]):
    from trunkline.manifest.definition import parse_create_version
    from trunkline.manifest.errors import InvalidCodePackageError
    from trunkline.manifest.unpack import UnpackLimits, unpack_package
    from trunkline.protocol.errors import InvalidRequestError

_LIMITS = UnpackLimits(max_total_bytes=100_000, max_entries=50)


def unpack(raw: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="trunkline-fuzz-") as name:
        outside = Path(name)
        inside = outside / "inside"
        try:
            unpack_package(io.BytesIO(raw), inside, _LIMITS)
        except InvalidCodePackageError:
            assert not any(inside.iterdir())
        assert os.listdir(outside) == ["inside"]
        for path in inside.rglob("*"):
            assert not path.is_symlink(), path


def define(raw: bytes) -> None:
    try:
        parse_create_version(raw)
    except InvalidRequestError as error:
        str(error).encode()


def test_one(raw: bytes) -> None:
    if raw[:1] == b"P":
        unpack(raw)
    else:
        define(raw)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one)
    atheris.Fuzz()
