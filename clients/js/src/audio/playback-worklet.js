/** From PCM as it comes to the loudspeaker: a queue that can be emptied at once. */

import { fromPcm, mono } from "./pcm.js";
import { Resampler } from "./resampler.js";

const REPORT_EVERY_S = 0.05;
/** Long enough for no click, too short to be heard. */
const FADE_S = 0.004;

class Playback extends AudioWorkletProcessor {
  /** @param {AudioWorkletNodeOptions} options */
  constructor(options) {
    super();
    /** @type {Float32Array[]} */
    this.queue = [];
    this.offset = 0;
    this.queued = 0;
    this.maxQueued = options.processorOptions.maxQueuedS * sampleRate;
    this.dropped = 0;
    this.isPlaying = false;
    this.rate = 0;
    /** @type {Resampler | null} */
    this.resampler = null;
    this.reportAt = 0;
    this.square = 0;
    this.peak = 0;
    this.counted = 0;
    this.last = 0;
    this.port.onmessage = ({ data }) => {
      if (data.flush !== undefined) this.flush(data.flush);
      else this.take(data);
    };
  }

  /** @param {{bytes: Uint8Array, rate: number, channels: number}} sound */
  take({ bytes, rate, channels }) {
    if (this.resampler === null || this.rate !== rate) {
      this.rate = rate;
      this.resampler = new Resampler(rate, sampleRate);
    }
    const samples = this.resampler.process(mono(fromPcm(bytes), channels));
    if (this.queued + samples.length > this.maxQueued) {
      this.dropped += samples.length;
      return;
    }
    this.queue.push(samples);
    this.queued += samples.length;
  }

  /** @param {number} id */
  flush(id) {
    this.port.postMessage({ flushed: id, seconds: this.queued / sampleRate, at: currentTime });
    this.queue = [];
    this.queued = this.offset = 0;
    this.resampler = null;
  }

  /**
   * @param {Float32Array[][]} _inputs
   * @param {Float32Array[][]} outputs
   * @returns {boolean}
   */
  process(_inputs, outputs) {
    const output = outputs[0]?.[0];
    if (output === undefined) return true;
    const wanted = output.length;
    const before = this.isPlaying;
    const filled = this.fill(output);
    if (filled > 0 && !before) {
      this.isPlaying = true;
      this.port.postMessage({ started: currentTime });
    }
    if (filled < wanted) this.fade(output, filled);
    if (before && filled === 0) {
      this.isPlaying = false;
      this.port.postMessage({ stopped: currentTime });
    }
    this.measure(output);
    for (const other of outputs[0]?.slice(1) ?? []) other.set(output);
    return true;
  }

  /** @param {Float32Array} output */
  fill(output) {
    let filled = 0;
    while (filled < output.length) {
      const [first] = this.queue;
      if (first === undefined) break;
      const part = first.subarray(this.offset, this.offset + output.length - filled);
      output.set(part, filled);
      filled += part.length;
      this.offset += part.length;
      if (this.offset === first.length) {
        this.queue.shift();
        this.offset = 0;
      }
    }
    this.queued -= filled;
    return filled;
  }

  /**
   * Let the last sample die away instead of breaking off.
   * @param {Float32Array} output
   * @param {number} from
   */
  fade(output, from) {
    const decay = Math.exp(-1 / (FADE_S * 0.25 * sampleRate));
    let value = from > 0 ? (output[from - 1] ?? 0) : this.last;
    for (let i = from; i < output.length; i += 1) {
      value *= decay;
      output[i] = value;
    }
  }

  /** @param {Float32Array} output */
  measure(output) {
    for (const value of output) {
      this.square += value * value;
      this.peak = Math.max(this.peak, Math.abs(value));
    }
    this.last = output[output.length - 1] ?? 0;
    this.counted += output.length;
    if (currentTime < this.reportAt) return;
    this.reportAt = currentTime + REPORT_EVERY_S;
    this.port.postMessage({
      level: { rms: Math.sqrt(this.square / this.counted), peak: this.peak },
      queuedS: this.queued / sampleRate,
      droppedS: this.dropped / sampleRate,
    });
    this.square = this.peak = this.counted = 0;
  }
}

registerProcessor("trunkline-playback", Playback);
