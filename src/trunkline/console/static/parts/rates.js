/** Makes rates of counters that are looked at now and then. */

/** What is drawn of frames a second. */
export const FRAMES = [
  { name: "up", colour: "accent" },
  { name: "down", colour: "second" },
];

/** One counter, which begins again at nothing when what it counts does. */
export class Rate {
  /** @type {{at: number, value: number} | null} */ #last = null;

  /**
   * Return by how much it grew a second since the last look; NaN at the first one.
   * @param {number} value
   * @param {number} atMs
   */
  of(value, atMs = performance.now()) {
    const last = this.#last;
    this.#last = { at: atMs, value };
    if (last === null || atMs <= last.at) return NaN;
    const grown = value >= last.value ? value - last.value : value;
    return (1000 * grown) / (atMs - last.at);
  }

  /** Nothing is counted at the moment. */
  forget() {
    this.#last = null;
  }
}

/** What a session's usage comes to: how much of what it may have, and how much goes over it. */
export class UsageRates {
  #cpu = new Rate();
  #up = new Rate();
  #down = new Rate();

  /**
   * @param {any} usage As the platform tells it; null if the session doesn't run.
   * @returns {{cpu: number, up: number, down: number}} Processors, and frames a second.
   */
  of(usage) {
    if (!usage) {
      for (const rate of [this.#cpu, this.#up, this.#down]) rate.forget();
      return { cpu: NaN, up: NaN, down: NaN };
    }
    const at = performance.now();
    return {
      cpu: usage.cpu === null ? NaN : this.#cpu.of(usage.cpu.used_s, at),
      up: this.#up.of(usage.in.frames, at),
      down: this.#down.of(usage.out.frames, at),
    };
  }
}
