"""The gateway's front door: however the bytes are cut, it decides the same, and nothing breaks."""

import asyncio
import logging
import sys

import atheris

with atheris.instrument_imports(include=["trunkline", "uvicorn"]):
    from fuzz.front_door import PIECES, FrontDoorHarness


def test_one(raw: bytes) -> None:
    data = atheris.FuzzedDataProvider(raw)
    if data.ConsumeBool():
        stream = data.ConsumeBytes(1500)
    else:
        parts = []
        for _ in range(data.ConsumeIntInRange(1, 12)):
            chosen = data.ConsumeIntInRange(0, len(PIECES))
            parts.append(PIECES[chosen] if chosen < len(PIECES) else data.ConsumeBytes(20))
        stream = b"".join(parts)
    whole = loop.run_until_complete(harness.decide([stream]))
    pieces, rest = [], stream
    while rest:
        size = data.ConsumeIntInRange(1, len(rest))
        pieces.append(rest[:size])
        rest = rest[size:]
    cut = loop.run_until_complete(harness.decide(pieces))
    assert cut == whole, (cut, whole)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    harness = FrontDoorHarness()
    atheris.Setup(sys.argv, test_one)
    atheris.Fuzz()
