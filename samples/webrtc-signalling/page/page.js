/** Signalling over the agent's WebSocket; sound by WebRTC, events over its data channel. */

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
  const { url, ticket } = await (await fetch("ticket", { method: "POST" })).json();
  const signals = await signalling(url, ticket);
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
async function signalling(url, ticket) {
  const socket = new WebSocket(url, [`trunkline.ticket.${ticket}`, "trunkline.ticket"]);
  const waiting = [];
  const made = {
    closed: () => {},
    close: () => socket.close(1000),
    ask: (question) =>
      new Promise((resolve, reject) => {
        waiting.push({ resolve, reject });
        socket.send(JSON.stringify(question));
      }),
  };
  socket.onmessage = ({ data }) => {
    const answer = JSON.parse(data);
    const { resolve, reject } = waiting.shift();
    if (answer.type === "error") reject(new Error(answer.message));
    else resolve(answer);
  };
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onclose = () => reject(new Error("the agent can't be reached"));
  });
  socket.onclose = ({ code, reason }) => {
    waiting.forEach(({ reject }) => reject(new Error(`closed with ${code} ${reason}`)));
    made.closed();
  };
  return made;
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
