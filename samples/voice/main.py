"""A spoken agent whose models run inside its own sandbox. Start it, and it listens on ``PORT``."""

import os

from starlette.websockets import WebSocket

import settings
from audio import Downsampler
from conversation import Client, Conversation, Senses
from engines.hibari import HibariSynthesizer
from engines.moonshine import MoonshineRecognizer
from engines.silero import SileroVoiceActivity
from memory import MemoryFile
from trunkline.agentserver import InvocationAgentServerHost

configured = settings.read(os.environ)
memory = MemoryFile(configured.memory_file)
# Both load on their own threads while the host starts: the session is ready before they are, and
# they are ready before a caller has finished the first sentence.
recognizer = MoonshineRecognizer()
synthesizer = HibariSynthesizer()

app = InvocationAgentServerHost()


@app.ws_handler
async def talk(websocket: WebSocket) -> None:
    conversation = Conversation(
        Client(send_text=websocket.send_text, send_bytes=websocket.send_bytes),
        Senses(
            activity=SileroVoiceActivity(),
            recognizer=recognizer,
            synthesizer=synthesizer,
            to_16k=Downsampler().convert,
        ),
        memory,
        rules=configured.turn_rules,
    )
    try:
        await conversation.open(configured.session_id)
        while (message := await websocket.receive())["type"] == "websocket.receive":
            if (text := message.get("text")) is not None:
                await conversation.receive_text(text)
            else:
                await conversation.receive_audio(message["bytes"])
    finally:
        await conversation.aclose()


if __name__ == "__main__":
    app.run()
