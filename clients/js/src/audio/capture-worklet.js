/** From the microphone's rate to whole frames of 16-bit PCM at the agent's. */

import { toPcm } from "./pcm.js";
import { Resampler } from "./resampler.js";

class Capture extends AudioWorkletProcessor {
  /** @param {AudioWorkletNodeOptions} options */
  constructor(options) {
    super();
    const { rate, frameMs } = options.processorOptions;
    this.resampler = new Resampler(sampleRate, rate);
    this.frame = new Float32Array(Math.round((rate * frameMs) / 1000));
    this.filled = 0;
  }

  /**
   * @param {Float32Array[][]} inputs
   * @returns {boolean}
   */
  process(inputs) {
    const channels = inputs[0];
    const first = channels?.[0];
    // No input: the stream has ended, or hasn't begun.
    if (channels === undefined || first === undefined) return true;
    let samples = this.resampler.process(channels.length === 1 ? first : mix(channels));
    while (samples.length > 0) {
      const taken = samples.subarray(0, this.frame.length - this.filled);
      this.frame.set(taken, this.filled);
      this.filled += taken.length;
      samples = samples.subarray(taken.length);
      if (this.filled === this.frame.length) this.emit();
    }
    return true;
  }

  emit() {
    let square = 0;
    let peak = 0;
    for (const value of this.frame) {
      square += value * value;
      peak = Math.max(peak, Math.abs(value));
    }
    const pcm = toPcm(this.frame);
    const level = { rms: Math.sqrt(square / this.frame.length), peak };
    this.port.postMessage({ pcm, level, at: currentTime }, [pcm.buffer]);
    this.filled = 0;
  }
}

/** @param {Float32Array[]} channels */
function mix(channels) {
  const [first] = channels;
  const mixed = new Float32Array(first?.length ?? 0);
  for (const channel of channels) {
    channel.forEach((value, i) => {
      mixed[i] = (mixed[i] ?? 0) + value / channels.length;
    });
  }
  return mixed;
}

registerProcessor("trunkline-capture", Capture);
