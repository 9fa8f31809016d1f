/** Signalling over the agent's WebSocket; sound by WebRTC, events over its data channel. */

import { connect } from "./client/index.js";

const byId = (id) => document.getElementById(id);
const state = byId("state");
let call = null;

byId("call").addEventListener("click", async () => {
  byId("call").disabled = true;
  try {
    call = await open();
    byId("hang-up").disabled = false;
  } catch (error) {
    state.textContent = error.message;
    byId("call").disabled = false;
  }
});
byId("hang-up").addEventListener("click", () => call?.end());
byId("write").addEventListener("submit", (event) => {
  event.preventDefault();
  const { value } = byId("words");
  if (value && call) call.channel.send(JSON.stringify({ type: "text", content: value }));
  byId("words").value = "";
});

async function open() {
  // The microphone first: before it is granted, candidates hide this machine's addresses.
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  const signals = await signalling(await (await fetch("agent")).json());
  const { iceServers } = await signals.ask({ action: "ice_config" });
  const peer = new RTCPeerConnection({ iceServers });
  const channel = peer.createDataChannel("events");
  channel.onmessage = ({ data }) => tell(JSON.parse(data));
  peer.ontrack = ({ streams: [stream], track }) => {
    byId("heard").srcObject = stream ?? new MediaStream([track]);
  };
  const end = () => {
    for (const track of microphone.getTracks()) track.stop();
    peer.close();
    signals.close();
    byId("call").disabled = false;
    byId("hang-up").disabled = true;
    state.textContent = "not connected";
  };
  peer.onconnectionstatechange = () => {
    state.textContent = peer.connectionState;
    if (peer.connectionState === "failed") end();
  };
  signals.closed = end;
  for (const track of microphone.getTracks()) peer.addTrack(track, microphone);

  // Candidates may be found before the answer is there; the agent knows them only after the offer.
  let isAnswered = false;
  const early = [];
  const pass = (candidate) => signals.ask({ action: "ice_candidate", candidate });
  peer.onicecandidate = ({ candidate }) => {
    if (candidate === null) return;
    if (isAnswered) pass(candidate.toJSON());
    else early.push(candidate.toJSON());
  };
  await peer.setLocalDescription();
  const { sdp } = await signals.ask({ action: "offer", sdp: peer.localDescription.sdp });
  await peer.setRemoteDescription({ type: "answer", sdp });
  isAnswered = true;
  early.forEach(pass);
  return { peer, channel, end };
}

/** One answer comes for each question, in the order they were asked. */
async function signalling(about) {
  const waiting = [];
  const made = { closed: () => {} };
  const socket = await connect({
    ...about,
    ticket: ({ sessionId }) => ticketFor(sessionId),
    // A call that is lost is over: there is nothing to come back to.
    backoff: false,
    on: {
      message: (text) => {
        const answer = JSON.parse(text);
        const { resolve, reject } = waiting.shift();
        if (answer.type === "error") reject(new Error(answer.message));
        else resolve(answer);
      },
      closed: ({ code, words }) => {
        waiting.forEach(({ reject }) => reject(new Error(`closed with ${code}: ${words}`)));
        made.closed();
      },
    },
  });
  made.close = () => socket.close();
  made.ask = (question) =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      socket.send(JSON.stringify(question)).catch(reject);
    });
  return made;
}

/** What this page's server got for one connection to one session. */
async function ticketFor(sessionId) {
  const answer = await fetch(`ticket?session=${encodeURIComponent(sessionId)}`, { method: "POST" });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error?.message ?? `no ticket: ${answer.status}`);
  return body.ticket;
}

function tell(event) {
  const who = { transcription: "You", bot_text: "Agent", interrupted: "–", error: "!" }[event.type];
  if (who === undefined) return;
  const line = document.createElement("li");
  const name = document.createElement("b");
  name.textContent = who;
  line.append(name, event.text ?? event.message ?? "interrupted");
  line.className = event.type;
  byId("said").append(line);
}
