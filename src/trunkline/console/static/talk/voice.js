/** Sound both ways: a microphone whose frames are sent, a loudspeaker that can be interrupted. */

import { Microphone, Speaker } from "../client/audio/index.js";

/** Twice as loud as the quiet is speech; so is nothing that is hardly there. */
const OVER_QUIET = 2.5;
const LEAST = 0.006;

/**
 * Knows from the microphone's level when somebody last spoke.
 *
 * Only for measuring: whether a turn is over is the agent's to say.
 */
export class SpeechMeter {
  #quiet = LEAST;
  lastSpeechAt = null;
  beganAt = null;

  /** @param {number} rms @param {number} at */
  hear(rms, at) {
    if (rms > Math.max(LEAST, this.#quiet * OVER_QUIET)) {
      if (this.lastSpeechAt === null || at - this.lastSpeechAt > 0.5) this.beganAt = at;
      this.lastSpeechAt = at;
    } else {
      this.#quiet = Math.min(0.05, 0.98 * this.#quiet + 0.02 * rms);
    }
  }
}

export class Voice {
  /** @type {Microphone | null} */ #microphone = null;
  /** @type {Speaker | null} */ #speaker = null;
  /** @type {AudioContext | null} */ #context = null;
  #meter = new SpeechMeter();
  #answered = true;
  #on;

  /**
   * @param {object} on
   * @param {(bytes: Uint8Array) => void} on.frame
   * @param {(side: "up" | "down", level: number) => void} on.level
   * @param {(ms: number) => void} on.firstAudio From the end of speech to the answer's first sound.
   * @param {(ms: number) => void} on.silenced From the beginning of speech until it was silent.
   */
  constructor(on) {
    this.#on = on;
  }

  get isListening() {
    return this.#microphone !== null;
  }

  get isMuted() {
    return this.#microphone?.isMuted ?? false;
  }

  set isMuted(isMuted) {
    if (this.#microphone) this.#microphone.isMuted = isMuted;
  }

  /** What is heard, for those who measure it. */
  get analyser() {
    return this.#speaker?.analyser ?? null;
  }

  /** Make ready to play. Called by a click, without which browsers play nothing. */
  async open() {
    if (this.#context !== null) return;
    this.#context = new AudioContext({ latencyHint: "interactive" });
    this.#speaker = await Speaker.open({
      context: this.#context,
      on: {
        started: (at) => this.#started(at),
        level: ({ rms }) => this.#on.level("down", rms),
      },
    });
    await this.#context.resume();
  }

  /** @param {number} rate */
  async listen(rate) {
    await this.open();
    this.#microphone ??= await Microphone.open({
      context: this.#context,
      rate,
      onFrame: ({ bytes, level, at }) => {
        this.#meter.hear(level.rms, at);
        if (this.#meter.lastSpeechAt === at) this.#answered = false;
        this.#on.level("up", level.rms);
        this.#on.frame(bytes);
      },
    });
  }

  stopListening() {
    this.#microphone?.close();
    this.#microphone = null;
  }

  /** @param {Uint8Array} message */
  play(message) {
    this.#speaker?.play(message);
  }

  /** Somebody interrupts: fall silent. */
  async flush() {
    if (this.#speaker === null) return;
    const dropped = await this.#speaker.flush();
    if (dropped > 0 && this.#meter.beganAt !== null && this.isListening) {
      this.#on.silenced((this.#context.currentTime - this.#meter.beganAt) * 1000);
    }
  }

  #started(at) {
    const { lastSpeechAt } = this.#meter;
    if (this.#answered || lastSpeechAt === null || at < lastSpeechAt) return;
    this.#answered = true;
    this.#on.firstAudio((at - lastSpeechAt) * 1000);
  }

  async close() {
    this.stopListening();
    this.#speaker?.close();
    this.#speaker = null;
    await this.#context?.close();
    this.#context = null;
  }
}
