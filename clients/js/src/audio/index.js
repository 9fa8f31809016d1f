/**
 * A microphone that yields frames and a loudspeaker that can be interrupted, by two audio worklets.
 *
 * Browsers only, and only on https or loopback: elsewhere they give no page a microphone.
 * @module
 */

import { bytesOf, soundOf } from "./pcm.js";

/** @typedef {{rms: number, peak: number}} Level From 0 to 1. */

/**
 * @typedef {object} Frame
 * @property {Uint8Array<ArrayBuffer>} bytes 16-bit little-endian PCM, mono.
 * @property {Level} level
 * @property {number} at When it was full, on the audio context's clock, in seconds.
 */

/**
 * @typedef {object} MicrophoneOptions
 * @property {AudioContext} context
 * @property {(frame: Frame) => void} onFrame
 * @property {number} [rate] The agent's samples a second: 24,000.
 * @property {number} [frameMs] How much sound one frame has: 20.
 * @property {MediaTrackConstraints} [constraints] Else echo cancellation, noise suppression and
 *   gain control are on, without which an agent hears itself.
 */

/** An open microphone. */
export class Microphone {
  #stream;
  #source;
  #node;

  /**
   * @param {MediaStream} stream
   * @param {AudioNode} source
   * @param {AudioWorkletNode} node
   */
  constructor(stream, source, node) {
    this.#stream = stream;
    this.#source = source;
    this.#node = node;
  }

  /**
   * Ask for the microphone, and send its frames.
   * @param {MicrophoneOptions} options
   * @returns {Promise<Microphone>}
   */
  static async open({ context, onFrame, rate = 24_000, frameMs = 20, constraints }) {
    if (!globalThis.navigator?.mediaDevices) {
      throw new Error("browsers give a microphone to pages on https or loopback only");
    }
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: constraints ?? {
        channelCount: 1,
        echoCancellation: true,
        noiseSuppression: true,
        autoGainControl: true,
      },
    });
    try {
      await context.audioWorklet.addModule(new URL("./capture-worklet.js", import.meta.url));
      const source = context.createMediaStreamSource(stream);
      const node = new AudioWorkletNode(context, "trunkline-capture", {
        numberOfOutputs: 0,
        processorOptions: { rate, frameMs },
      });
      node.port.onmessage = ({ data }) => {
        onFrame({ bytes: bytesOf(data.pcm), level: data.level, at: data.at });
      };
      source.connect(node);
      return new Microphone(stream, source, node);
    } catch (error) {
      for (const track of stream.getTracks()) track.stop();
      throw error;
    }
  }

  /** Whether silence is sent in the place of what it hears. */
  get isMuted() {
    return this.#stream.getAudioTracks().every((track) => !track.enabled);
  }

  set isMuted(isMuted) {
    for (const track of this.#stream.getAudioTracks()) track.enabled = !isMuted;
  }

  /** Give the microphone back. Twice is fine. */
  close() {
    this.#node.port.onmessage = null;
    this.#source.disconnect();
    for (const track of this.#stream.getTracks()) track.stop();
  }
}

/**
 * What the loudspeaker tells. Times are on the audio context's clock.
 * @typedef {object} SpeakerEvents
 * @property {(at: number) => void} [started] Sound begins, after there was none.
 * @property {(at: number) => void} [stopped] There is nothing to play any more.
 * @property {(level: Level, queuedS: number) => void} [level] About twenty times a second.
 */

/**
 * @typedef {object} SpeakerOptions
 * @property {AudioContext} context
 * @property {number} [rate] What to take messages for that don't say: 24,000.
 * @property {number} [maxQueuedS] What may wait to be played: 120. More is dropped.
 * @property {SpeakerEvents} [on]
 */

/** A loudspeaker that plays what it gets at once, and falls silent when told. */
export class Speaker {
  #node;
  #flushes = 0;
  /** @type {Map<number, (seconds: number) => void>} */ #waiting = new Map();

  /**
   * @param {AudioWorkletNode} node
   * @param {AnalyserNode} analyser
   * @param {number} rate
   * @param {SpeakerEvents} on
   */
  constructor(node, analyser, rate, on) {
    this.#node = node;
    /** What is heard, for drawing it. */
    this.analyser = analyser;
    this.rate = rate;
    /** What couldn't be queued any more. */
    this.droppedS = 0;
    node.port.onmessage = ({ data }) => {
      if (data.started !== undefined) on.started?.(data.started);
      else if (data.stopped !== undefined) on.stopped?.(data.stopped);
      else if (data.flushed !== undefined) {
        this.#waiting.get(data.flushed)?.(data.seconds);
        this.#waiting.delete(data.flushed);
      } else {
        this.droppedS = data.droppedS;
        on.level?.(data.level, data.queuedS);
      }
    };
  }

  /**
   * @param {SpeakerOptions} options
   * @returns {Promise<Speaker>}
   */
  static async open({ context, rate = 24_000, maxQueuedS = 120, on = {} }) {
    await context.audioWorklet.addModule(new URL("./playback-worklet.js", import.meta.url));
    const node = new AudioWorkletNode(context, "trunkline-playback", {
      numberOfInputs: 0,
      outputChannelCount: [1],
      processorOptions: { maxQueuedS },
    });
    const analyser = context.createAnalyser();
    node.connect(analyser).connect(context.destination);
    return new Speaker(node, analyser, rate, on);
  }

  /**
   * Play a binary message of the agent: PCM with the 8-byte header of rate and channels, or alone.
   * @param {Uint8Array<ArrayBuffer>} message
   */
  play(message) {
    const { rate, channels, pcm } = soundOf(message, this.rate);
    const bytes = pcm.slice();
    this.#node.port.postMessage({ bytes, rate, channels }, [bytes.buffer]);
  }

  /**
   * Throw away what waits to be played: somebody interrupts.
   * @returns {Promise<number>} How many seconds that were.
   */
  flush() {
    this.#flushes += 1;
    const id = this.#flushes;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#node.port.postMessage({ flush: id });
    });
  }

  /** Stop. Twice is fine. */
  close() {
    this.#node.port.onmessage = null;
    this.#node.disconnect();
    this.analyser.disconnect();
  }
}

export { soundOf } from "./pcm.js";
