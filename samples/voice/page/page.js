/** Sound both ways and events over one WebSocket, in the messages of Microsoft's hello-world sample. */

import { Microphone, Speaker } from "./client/audio/index.js";
import { connect } from "./client/index.js";

const byId = (id) => document.getElementById(id);
const state = byId("state");
const WHO = { transcription: "You", bot_text: "Agent", interrupted: "–", error: "!" };
let call = null;

byId("call").addEventListener("click", async () => {
  byId("call").disabled = true;
  try {
    // In the click itself: browsers let only that begin to play.
    const context = new AudioContext({ latencyHint: "interactive" });
    await open(context);
    byId("hang-up").disabled = false;
  } catch (error) {
    ended(error.message);
  }
});
byId("hang-up").addEventListener("click", () => call?.close());
byId("write").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = byId("words").value.trim();
  if (words === "" || call === null) return;
  byId("words").value = "";
  tell({ type: "transcription", text: words });
  call.send(JSON.stringify({ type: "text", content: words })).catch((error) => ended(error.message));
});

async function open(context) {
  state.textContent = "connecting";
  const speaker = await Speaker.open({ context });
  // For whoever wants to see what is heard.
  byId("said").analyser = speaker.analyser;
  const about = await (await fetch("agent")).json();
  let microphone = null;
  call = await connect({
    ...about,
    ticket: ({ sessionId }) => ticketFor(sessionId),
    on: {
      open: () => (state.textContent = "connected"),
      lost: ({ words }) => (state.textContent = `coming back: ${words}`),
      message: (message) => {
        if (typeof message === "string") receive(JSON.parse(message), speaker);
        else speaker.play(message);
      },
      closed: ({ code, words }) => {
        microphone?.close();
        speaker.close();
        void context.close();
        ended(code === 1000 ? "not connected" : `closed with ${code}: ${words}`);
      },
    },
  });
  try {
    microphone = await Microphone.open({ context, onFrame: ({ bytes }) => call?.trySend(bytes) });
  } catch (error) {
    tell({ type: "error", message: `There is no microphone: ${error.message}. Write instead.` });
  }
}

/** What this page's server got for one connection to one session. */
async function ticketFor(sessionId) {
  const answer = await fetch(`ticket?session=${encodeURIComponent(sessionId)}`, { method: "POST" });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error?.message ?? `no ticket: ${answer.status}`);
  return body.ticket;
}

function receive(event, speaker) {
  // Whatever waits to be played answers what was said before.
  if (event.type === "user_speech_started" || event.type === "interrupted") void speaker.flush();
  tell(event);
}

function tell(event) {
  if (!(event.type in WHO) || event.text === "") return;
  const line = document.createElement("li");
  const name = document.createElement("b");
  name.textContent = WHO[event.type];
  line.append(name, event.text ?? event.message ?? "interrupted");
  line.className = event.type;
  byId("said").append(line);
}

function ended(why) {
  call = null;
  state.textContent = why;
  byId("call").disabled = false;
  byId("hang-up").disabled = true;
}
