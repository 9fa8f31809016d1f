/** How long to wait between attempts to come back. */

/**
 * @typedef {object} Backoff
 * @property {number} [firstMs] Before the second attempt; the first is made at once, give or take
 *   the chance. 250.
 * @property {number} [maxMs] The longest wait. Each is twice the one before until then. 15,000.
 * @property {number} [giveUpAfterMs] 300,000: a platform that is being restarted is back by then.
 */

/** @type {Readonly<Required<Backoff>>} */
export const DEFAULT_BACKOFF = Object.freeze({
  firstMs: 250,
  maxMs: 15_000,
  giveUpAfterMs: 300_000,
});

/**
 * Return the wait before an attempt, counted from 0.
 *
 * All of it is chance, so that clients that were cut off together don't come back together.
 * @param {Required<Backoff>} backoff
 * @param {number} attempt
 * @param {number} chance From 0 to 1.
 * @returns {number}
 */
export function pauseMs(backoff, attempt, chance) {
  return Math.min(backoff.firstMs * 2 ** Math.min(attempt, 30), backoff.maxMs) * chance;
}
