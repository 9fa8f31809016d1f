"""Is uvloop's BufferedProtocol, with one buffer for everybody, cheaper than ``data_received``?

No: 1.30 times nginx's CPU at 640 bytes with 32 connections, ``data_received`` 1.25 in the same run;
0.99 at 16 KiB, but half of the rounds between 0.87 and 1.42. What it saves, a bytes object per
read, it needs again for a write that the transport may keep.
"""

import asyncio

from benchmarks.experiments import relay_uvloop
from benchmarks.experiments.serving import serve_protocols

VIEW = memoryview(bytearray(65536))


class Leg(relay_uvloop.Leg, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> memoryview:
        return VIEW

    def buffer_updated(self, nbytes: int) -> None:
        # The copy is needed: the transport may keep it, and the buffer is everybody's.
        self.data_received(bytes(VIEW[:nbytes]))


if __name__ == "__main__":
    serve_protocols(Leg)
