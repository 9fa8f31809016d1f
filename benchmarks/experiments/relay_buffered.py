"""Is uvloop's BufferedProtocol, with one buffer for everybody, cheaper than ``data_received``?"""

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
