"""The media: sound in, sound out, and a data channel, by aiortc."""

import asyncio
import fractions
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import aioice.ice
import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp

from signalling import BadSignalError

RATE = 24_000
_FRAME_S = 0.02
_FRAME_BYTES = int(RATE * _FRAME_S) * 2
CANDIDATE_TIMEOUT_S = 10.0


def offer_only(addresses: list[str]) -> None:
    """Have every call of this process offer these addresses, not all the machine has.

    In a container that is reached by another address than its own, that one is the only use; and
    on one machine alone it is 127.0.0.1, which aioice leaves out otherwise.
    """
    if addresses:
        aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: addresses


class Loudspeaker(MediaStreamTrack):
    """What the other side hears: 20 ms at a time, silence when there is nothing."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[bytes] = deque()
        self._rest = b""
        self._count = 0
        self._begun = 0.0

    def play(self, pcm: bytes) -> None:
        """Add sound."""
        pcm = self._rest + pcm
        whole = len(pcm) - len(pcm) % _FRAME_BYTES
        self._waiting.extend(pcm[at : at + _FRAME_BYTES] for at in range(0, whole, _FRAME_BYTES))
        self._rest = pcm[whole:]

    def flush(self) -> None:
        """Throw away what nobody has heard yet."""
        self._waiting.clear()
        self._rest = b""

    async def recv(self) -> av.AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        self._begun = self._begun or now
        await asyncio.sleep(max(0.0, self._begun + self._count * _FRAME_S - now))
        frame = av.AudioFrame(format="s16", layout="mono", samples=_FRAME_BYTES // 2)
        frame.planes[0].update(self._waiting.popleft() if self._waiting else bytes(_FRAME_BYTES))
        frame.sample_rate = RATE
        frame.time_base = fractions.Fraction(1, RATE)
        frame.pts = self._count * (_FRAME_BYTES // 2)
        self._count += 1
        return frame


class RtcPeer:
    """One call. ``hear`` gets 24 kHz mono PCM; ``words`` what comes over the data channel."""

    def __init__(
        self,
        ice_servers: list[dict[str, Any]],
        *,
        hear: Callable[[bytes], Awaitable[None]],
        words: Callable[[str], Awaitable[None]],
        opened: Callable[[], Awaitable[None]],
    ) -> None:
        # Without a list of its own it would ask a server of Google's.
        servers = [RTCIceServer(**server) for server in ice_servers]
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._channel: RTCDataChannel | None = None
        self._hear, self._words, self._opened = hear, words, opened
        self._tasks: set[asyncio.Task[None]] = set()
        self.loudspeaker = Loudspeaker()
        self._connection.addTrack(self.loudspeaker)
        self._connection.on("track", self._on_track)
        self._connection.on("datachannel", self._on_channel)
        self._connection.on("connectionstatechange", self._on_state)

    async def answer(self, sdp: str) -> str:
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        except Exception as error:
            # It parses text that anybody may have sent, and raises whatever goes wrong there.
            raise BadSignalError("invalid_field", f"sdp isn't an offer: {error}") from error
        # aiortc puts all its candidates into the answer.
        await self._connection.setLocalDescription(await self._connection.createAnswer())
        return str(self._connection.localDescription.sdp)

    async def add_candidate(self, candidate: dict[str, Any]) -> None:
        text = candidate["candidate"].partition("candidate:")[2]
        if not text:
            # The last one is empty.
            return
        try:
            known = candidate_from_sdp(text)
        except (ValueError, AssertionError, IndexError) as error:
            raise BadSignalError("invalid_field", f"candidate isn't one: {error}") from error
        known.sdpMid = candidate.get("sdpMid")
        known.sdpMLineIndex = candidate.get("sdpMLineIndex")
        async with asyncio.timeout(CANDIDATE_TIMEOUT_S):
            await self._connection.addIceCandidate(known)

    def tell(self, event: str) -> None:
        """Send an event, if there is a channel yet."""
        if self._channel is not None and self._channel.readyState == "open":
            self._channel.send(event)

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            self._spawn(self._listen(track))

    def _on_channel(self, channel: RTCDataChannel) -> None:
        self._channel = channel
        channel.on("message", lambda text: self._spawn(self._words(str(text))))
        self._spawn(self._opened())

    def _on_state(self) -> None:
        print(f"media is {self._connection.connectionState}", flush=True)

    async def _listen(self, track: MediaStreamTrack) -> None:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        try:
            while True:
                for frame in resampler.resample(await track.recv()):
                    await self._hear(bytes(frame.planes[0])[: frame.samples * 2])
        except MediaStreamError:
            return
