/** Talking to an agent: by voice, by text, and looking at every frame. */

import { connect, newSessionId } from "../client/index.js";
import { LatencyChart, VoiceStrip } from "../parts/charts.js";
import { button, h, icon, note, save, setText } from "../parts/dom.js";
import { card, pill, setPill, tile, trail } from "../parts/pieces.js";
import { duration, percentile, size } from "../parts/words.js";
import { Inspector } from "../talk/inspector.js";
import { Recorder, clientSideOf } from "../talk/recording.js";
import { Transcript } from "../talk/transcript.js";
import { Voice } from "../talk/voice.js";

const STEP_MS = 60;
const DEFAULT_RATE = 24_000;
/** How long an agent is given to say how it takes words, before the first are sent. */
const GREETING_MS = 500;

export function talkPage(context, agent) {
  const talk = new Talk(context, agent);
  context.signal.addEventListener("abort", () => talk.close(), { once: true });
  return talk.page();
}

class Talk {
  #call = null;
  #recorder = null;
  #rate = DEFAULT_RATE;
  #speaksWords = false;
  #greeting = Promise.resolve();
  #greeted = () => {};
  #sentAt = null;
  #counts = { up: 0, down: 0, upBytes: 0, downBytes: 0 };

  constructor({ api, signal, query }, agent) {
    this.api = api;
    this.agent = agent;
    this.signal = signal;
    this.sessionId = query.get("session");
    this.here = `#/agents/${encodeURIComponent(agent)}`;
    this.state = pill("not connected");
    this.how = h("p", { class: "dim", role: "status" }, "Press Talk to speak, or write something.");
    this.session = h("a", { class: "mono", hidden: true });
    this.strip = new VoiceStrip("Loudness of the last seconds: above the line yours, below it the agent's", signal);
    this.latency = new LatencyChart("Time to the answer's first sound, one bar for each turn", signal);
    this.tiles = {
      last: tile("Last answer", "from the end of your speech to the first sound of the answer; for text, to the first frame"),
      middle: tile("p50", "half of the answers were faster"),
      slow: tile("p95", "one in twenty was slower"),
      silenced: tile("Silent after", "from the beginning of your interruption until the loudspeaker was silent"),
      up: tile("Sent", "frames and bytes"),
      down: tile("Received", "frames and bytes"),
    };
    this.transcript = new Transcript();
    this.inspector = new Inspector();
    this.voice = new Voice({
      frame: (bytes) => this.#sendSound(bytes),
      level: (side, level) => this.strip.hear(side, level),
      firstAudio: (ms) => this.#measured(ms),
      silenced: (ms) => this.tiles.silenced.set(duration(ms / 1000)),
    });
    this.talkButton = button("Talk", { name: "mic", kind: "primary large", press: () => this.#toggleTalk() });
    this.muteButton = button("Mute", { name: "micOff", disabled: true, "aria-pressed": "false", press: () => this.#toggleMute() });
    this.hangUpButton = button("Hang up", { name: "hangUp", disabled: true, press: () => this.#call?.close() });
    this.recordButton = button("Record", { name: "record", "aria-pressed": "false", press: () => this.#toggleRecord() });
    this.chooser = h("input", { type: "file", accept: ".trk,.rec", hidden: true, "aria-label": "A recording to replay" });
    this.chooser.addEventListener("change", () => this.#replay());
    this.replayButton = button("Replay", { name: "play", press: () => this.chooser.click() });
    this.input = h("input", { id: "words", autocomplete: "off", placeholder: "Write to the agent" });
    const timer = setInterval(() => this.#call?.isOpen && this.strip.step(), STEP_MS);
    signal.addEventListener("abort", () => clearInterval(timer), { once: true });
    // For tests: what the loudspeaker gets, and what was measured.
    this.strip.canvas.voice = this.voice;
    this.latency.canvas.values = this.latency.values;
    this.latency.canvas.classList.add("latency");
  }

  page() {
    const write = h(
      "form",
      { class: "row write", on: { submit: (event) => this.#write(event) } },
      h("label", { class: "unseen", for: "words" }, "Message"),
      this.input,
      button("Send", { name: "send", type: "submit" }),
    );
    return {
      title: `Talk to ${this.agent}`,
      head: h(
        "div",
        {},
        trail([
          ["Agents", "#/"],
          [this.agent, this.here],
        ]),
        h("div", { class: "row title" }, h("h1", { tabindex: "-1" }, `Talk to ${this.agent}`), this.state, this.session),
      ),
      body: [
        h(
          "div",
          { class: "columns talk" },
          h(
            "section",
            { class: "card", "aria-label": "Conversation" },
            this.strip.element,
            h("div", { class: "row controls" }, this.talkButton, this.muteButton, this.hangUpButton),
            this.how,
            this.transcript.element,
            write,
          ),
          card(
            "How fast",
            { actions: [this.recordButton, this.replayButton, this.chooser] },
            h("div", { class: "tiles inner three" }, Object.values(this.tiles).map(({ element }) => element)),
            this.latency.element,
          ),
        ),
        this.inspector.element,
      ],
    };
  }

  /** The page is left. */
  close() {
    // The call ends by the page's signal.
    void this.voice.close();
  }

  async #connect() {
    if (this.#call !== null) return this.#call;
    setPill(this.state, "connecting");
    setText(this.how, "Connecting. A new session may have to be started first.");
    this.sessionId ??= newSessionId();
    this.#greeting = new Promise((resolve) => (this.#greeted = resolve));
    const begun = performance.now();
    let isOver = false;
    this.#call = connect({
      endpoint: this.api.endpoint,
      agent: this.agent,
      sessionId: this.sessionId,
      token: this.api.token,
      signal: this.signal,
      on: {
        open: () => this.#opened(),
        message: (message) => this.#receive(message),
        lost: (close) => this.#lost(close),
        closed: (close) => {
          isOver = true;
          this.#closed(close);
        },
      },
    });
    try {
      this.#call = await this.#call;
      if (isOver) return null;
      this.transcript.say("note", `Connected after ${duration((performance.now() - begun) / 1000)}`);
      return this.#call;
    } catch (error) {
      this.#call = null;
      setPill(this.state, "closed");
      setText(this.how, error.message);
      this.transcript.say("bad", error.message);
      return null;
    }
  }

  #opened() {
    setPill(this.state, "open");
    setText(this.how, this.voice.isListening ? "Speak. To interrupt the agent, just begin." : "Connected.");
    this.hangUpButton.disabled = false;
    this.session.hidden = false;
    this.session.href = `${this.here}/sessions/${encodeURIComponent(this.sessionId)}`;
    setText(this.session, this.sessionId);
    this.#recorder?.opened(this.sessionId);
  }

  #lost(close) {
    setPill(this.state, "reconnecting");
    this.#recorder?.lost(close);
    this.transcript.say("note", `The connection was lost (${close.code}: ${close.reason || close.words}). Coming back.`);
    void this.voice.flush();
  }

  #closed(close) {
    setPill(this.state, "closed");
    const why = `Closed with ${close.code}: ${close.words}${close.reason ? ` (${close.reason})` : ""}`;
    setText(this.how, why);
    this.transcript.say(close.code === 1000 ? "note" : "bad", why);
    this.#recorder?.lost(close);
    this.hangUpButton.disabled = this.muteButton.disabled = true;
    this.#call = null;
    this.#showTalking(false);
    void this.voice.flush();
    this.voice.stopListening();
  }

  async #toggleTalk() {
    if (this.voice.isListening) {
      this.voice.stopListening();
      this.#showTalking(false);
      return;
    }
    this.talkButton.disabled = true;
    try {
      // In the click itself: browsers let only that begin to play.
      await this.voice.open();
      if ((await this.#connect()) === null) return;
      await this.voice.listen(this.#rate);
      this.#showTalking(true);
      setText(this.how, "Speak. To interrupt the agent, just begin.");
    } catch (error) {
      setText(this.how, `There is no microphone: ${error.message}`);
    } finally {
      this.talkButton.disabled = false;
    }
  }

  #showTalking(isTalking) {
    this.talkButton.replaceChildren(icon(isTalking ? "stop" : "mic"), h("span", {}, isTalking ? "Stop talking" : "Talk"));
    this.talkButton.classList.toggle("live", isTalking);
    this.muteButton.disabled = !isTalking;
    this.muteButton.setAttribute("aria-pressed", "false");
  }

  #toggleMute() {
    this.voice.isMuted = !this.voice.isMuted;
    this.muteButton.setAttribute("aria-pressed", String(this.voice.isMuted));
  }

  #sendSound(bytes) {
    if (this.#call?.isOpen && this.#call.trySend(bytes)) this.#note("up", bytes);
  }

  async #write(event) {
    event.preventDefault();
    const words = this.input.value;
    if (words === "") return;
    this.input.value = "";
    await this.voice.open().catch(() => {});
    const call = await this.#connect();
    if (call === null) return;
    await Promise.race([this.#greeting, new Promise((resolve) => setTimeout(resolve, GREETING_MS))]);
    const message = this.#speaksWords ? JSON.stringify({ type: "text", content: words }) : words;
    try {
      await call.send(message);
      this.#sentAt = performance.now();
      this.#note("up", message);
      this.transcript.say("you", words);
    } catch (error) {
      this.transcript.say("bad", error.message);
    }
  }

  #receive(message) {
    this.#greeted();
    if (this.#sentAt !== null) {
      this.#measured(performance.now() - this.#sentAt);
      this.#sentAt = null;
    }
    this.#note("down", message);
    if (typeof message !== "string") {
      this.voice.play(message);
      return;
    }
    let event;
    try {
      event = JSON.parse(message);
    } catch {
      event = null;
    }
    if (event === null || typeof event !== "object" || typeof event.type !== "string") {
      this.transcript.say("agent", message);
    } else this.#tell(event);
  }

  /** An event as the voice samples send them. */
  #tell(event) {
    switch (event.type) {
      case "session_started":
        this.#speaksWords = true;
        this.#rate = event.sample_rate ?? DEFAULT_RATE;
        break;
      case "transcription":
        if (event.text) this.transcript.say("you", event.text);
        else this.transcript.say("note", "Nothing was understood.");
        break;
      case "bot_text":
        this.transcript.say("agent", event.text);
        break;
      case "partial":
      case "final":
        this.transcript.caption(event.id, event.text, event.type === "final");
        break;
      case "user_speech_started":
        void this.voice.flush();
        break;
      case "interrupted":
        void this.voice.flush();
        this.transcript.say("note", `Interrupted after ${duration((event.played_ms ?? 0) / 1000)}`);
        break;
      case "error":
        this.transcript.say("bad", event.message ?? event.code ?? "The agent reports an error.");
        break;
      case "user_speech_stopped":
      case "response_done":
        break;
      default:
        this.transcript.say("agent", JSON.stringify(event));
    }
  }

  #note(side, message) {
    const bytes = message.length;
    this.#counts[side] += 1;
    this.#counts[`${side}Bytes`] += bytes;
    this.tiles[side].set(`${this.#counts[side].toLocaleString()} · ${size(this.#counts[`${side}Bytes`])}`);
    this.inspector.add(side, message);
    this.#recorder?.frame(side, message);
  }

  #measured(ms) {
    this.latency.add(ms);
    const { values } = this.latency;
    this.tiles.last.set(duration(ms / 1000));
    this.tiles.middle.set(duration(percentile(values, 0.5) / 1000));
    this.tiles.slow.set(duration(percentile(values, 0.95) / 1000));
  }

  #toggleRecord() {
    if (this.#recorder === null) {
      const about = { agent: this.agent, endpoint: this.api.endpoint.url };
      this.#recorder = new Recorder(about, this.sessionId ?? "");
    } else {
      save(this.#recorder.file(), `${this.agent}-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.trk`);
      this.#recorder = null;
    }
    const isOn = this.#recorder !== null;
    this.recordButton.setAttribute("aria-pressed", String(isOn));
    setText(this.recordButton.lastElementChild, isOn ? "Save recording" : "Record");
  }

  /** Send what the client of a recording sent, at the times it did. */
  async #replay() {
    const [file] = this.chooser.files;
    this.chooser.value = "";
    if (file === undefined) return;
    try {
      const { messages } = clientSideOf(new Uint8Array(await file.arrayBuffer()));
      await this.voice.open();
      const call = await this.#connect();
      if (call === null) return;
      this.transcript.say("note", `Replaying ${file.name}: ${messages.length} messages`);
      const begun = performance.now();
      for (const { atMs, message } of messages) {
        const wait = atMs - (performance.now() - begun);
        if (wait > 1) await new Promise((resolve) => setTimeout(resolve, wait));
        if (this.signal.aborted) return;
        await call.send(message);
        this.#note("up", message);
      }
      this.transcript.say("note", "The replay is over.");
    } catch (error) {
      note(error.message, "bad");
    }
  }
}
