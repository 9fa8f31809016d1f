/**
 * Changes a stream's sample rate: band-limited interpolation with a windowed sinc.
 *
 * Pure, so that it runs in an audio worklet, in a page and in a test alike.
 */

const ZERO_CROSSINGS = 16;
const STEPS = 256;
/** The part of the band that is kept: what is left is the filter's slope. */
const ROLLOFF = 0.94;

/** One stream of one channel. Blocks may have any length; nothing is heard of where they meet. */
export class Resampler {
  #step;
  #half;
  #scale;
  #table;
  #history;
  #filled;
  /** Where the next output sample is, in input samples from the history's start. */
  #position;

  /**
   * @param {number} from Samples a second that come.
   * @param {number} to Samples a second that are wanted.
   */
  constructor(from, to) {
    if (!(from > 0 && to > 0)) throw new RangeError(`can't resample from ${from} to ${to} Hz`);
    this.#step = from / to;
    this.#scale = Math.min(1, to / from) * ROLLOFF;
    this.#half = Math.ceil(ZERO_CROSSINGS / this.#scale);
    this.#table = sincTable(this.#scale, this.#half);
    this.#history = new Float32Array(4096);
    // Silence in front, so that the first sample has neighbours too.
    this.#filled = this.#half;
    this.#position = this.#half;
  }

  /**
   * Take samples; return those they make possible.
   * @param {Float32Array} input
   * @returns {Float32Array<ArrayBuffer>}
   */
  process(input) {
    this.#append(input);
    const last = this.#filled - this.#half - 1;
    const count = Math.max(0, Math.floor((last - this.#position) / this.#step) + 1);
    const output = new Float32Array(count);
    for (let i = 0; i < count; i += 1) {
      output[i] = this.#at(this.#position);
      this.#position += this.#step;
    }
    this.#forget();
    return output;
  }

  /** @param {number} position */
  #at(position) {
    const history = this.#history;
    const table = this.#table;
    const centre = Math.floor(position);
    const offset = (position - centre) * STEPS;
    const half = this.#half;
    let sum = 0;
    for (let k = -half + 1; k <= half; k += 1) {
      const index = Math.abs(k * STEPS - offset);
      const lower = Math.floor(index);
      const a = /** @type {number} */ (table[lower]);
      const b = /** @type {number} */ (table[lower + 1]);
      sum += /** @type {number} */ (history[centre + k]) * (a + (b - a) * (index - lower));
    }
    return sum;
  }

  /** @param {Float32Array} input */
  #append(input) {
    const needed = this.#filled + input.length;
    if (needed > this.#history.length) {
      const larger = new Float32Array(needed * 2);
      larger.set(this.#history.subarray(0, this.#filled));
      this.#history = larger;
    }
    this.#history.set(input, this.#filled);
    this.#filled = needed;
  }

  #forget() {
    const unneeded = Math.floor(this.#position) - this.#half;
    if (unneeded <= 0) return;
    this.#history.copyWithin(0, unneeded, this.#filled);
    this.#filled -= unneeded;
    this.#position -= unneeded;
  }
}

/**
 * Half of a symmetric filter: sinc under a Blackman window.
 * @param {number} scale
 * @param {number} half
 */
function sincTable(scale, half) {
  const table = new Float32Array(half * STEPS + 2);
  for (let i = 0; i <= half * STEPS; i += 1) {
    const x = i / STEPS;
    const phase = Math.PI * x * scale;
    const sinc = i === 0 ? 1 : Math.sin(phase) / phase;
    const turn = (Math.PI * x) / half;
    table[i] = scale * sinc * (0.42 + 0.5 * Math.cos(turn) + 0.08 * Math.cos(2 * turn));
  }
  return table;
}
