"""The voice sample over WebRTC: the WebSocket carries signalling only, sound goes by itself.

``conversation``, ``engines`` and the rest are samples/voice, which deploy.py puts beside this.
"""

import json
import os
from typing import Any

from starlette.websockets import WebSocket

import settings
from audio import Downsampler
from conversation import Client, Conversation, Senses
from engines.hibari import HibariSynthesizer
from engines.moonshine import MoonshineRecognizer
from engines.silero import SileroVoiceActivity
from memory import MemoryFile
from peer import RtcPeer, offer_only
from signalling import Signalling
from trunkline.agentserver import InvocationAgentServerHost

_HEADER_BYTES = 8
"""The voice sample's messages say their rate and channels in front; a track needs neither."""

configured = settings.read(os.environ)
ice_servers: list[dict[str, Any]] = json.loads(os.environ.get("WEBRTC_ICE_SERVERS") or "[]")
offer_only([address for address in os.environ.get("WEBRTC_ADDRESSES", "").split(",") if address])
memory = MemoryFile(configured.memory_file)
recognizer = MoonshineRecognizer()
synthesizer = HibariSynthesizer()
app = InvocationAgentServerHost()


class Call(RtcPeer):
    """One call: the conversation of the voice sample, with a track in the place of messages."""

    def __init__(self) -> None:
        self._conversation = Conversation(
            Client(send_text=self._send_event, send_bytes=self._send_sound),
            Senses(
                activity=SileroVoiceActivity(),
                recognizer=recognizer,
                synthesizer=synthesizer,
                to_16k=Downsampler().convert,
            ),
            memory,
            rules=configured.turn_rules,
        )
        super().__init__(
            ice_servers,
            hear=self._conversation.receive_audio,
            words=self._conversation.receive_text,
            opened=self._open,
        )

    async def aclose(self) -> None:
        await super().aclose()
        await self._conversation.aclose()

    async def _open(self) -> None:
        await self._conversation.open(configured.session_id)

    async def _send_event(self, event: str) -> None:
        if json.loads(event)["type"] == "interrupted":
            # Nothing needs to be thrown away on the other side: it hasn't been sent yet.
            self.loudspeaker.flush()
        self.tell(event)

    async def _send_sound(self, message: bytes) -> None:
        self.loudspeaker.play(message[_HEADER_BYTES:])


async def new_call() -> Call:
    return Call()


@app.ws_handler
async def signal(websocket: WebSocket) -> None:
    signalling = Signalling(ice_servers, new_call)
    try:
        async for message in websocket.iter_text():
            await websocket.send_text(await signalling.reply(message))
    finally:
        await signalling.aclose()


if __name__ == "__main__":
    app.run()
