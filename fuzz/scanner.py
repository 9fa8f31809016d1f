"""The relay's frame scanner: however the bytes are cut, it sees the same frames."""

import sys

import atheris

with atheris.instrument_imports(include=["trunkline"]):
    from trunkline.protocol.frames import FrameScanner

_LIMIT = 300


def reference(data: bytes) -> tuple[int, bool]:
    """Return how many frames are announced, and whether one that is too long ended that."""
    at, frames = 0, 0
    while at + 2 <= len(data):
        length, is_masked = data[at + 1] & 0x7F, bool(data[at + 1] & 0x80)
        more = {126: 2, 127: 8}.get(length, 0)
        if at + 2 + more > len(data):
            break
        if more:
            length = int.from_bytes(data[at + 2 : at + 2 + more])
        if length > _LIMIT:
            return frames, True
        frames += 1
        at += 2 + more + 4 * is_masked + length
    return frames, False


def test_one(raw: bytes) -> None:
    data = atheris.FuzzedDataProvider(raw)
    stream = data.ConsumeBytes(1500)
    cut, whole = FrameScanner(_LIMIT), FrameScanner(_LIMIT)
    let_through = whole.feed(stream)
    passed = bytearray()
    rest = stream
    while rest:
        size = data.ConsumeIntInRange(1, len(rest))
        passed += cut.feed(rest[:size])
        rest = rest[size:]
    assert stream.startswith(let_through)
    assert bytes(passed) == let_through, "what is let through depends on the cuts"
    assert (cut.frames, cut.oversize_bytes) == (whole.frames, whole.oversize_bytes)
    assert cut.close == whole.close
    frames, is_too_long = reference(stream)
    assert whole.frames == frames, (whole.frames, frames)
    assert (whole.oversize_bytes > _LIMIT) == is_too_long


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one)
    atheris.Fuzz()
