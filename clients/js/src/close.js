/** WebSocket close codes in words (RFC 6455 section 7.4.1, and what the platform means by them). */

/** @type {Readonly<Record<number, string>>} */
export const WORDS = Object.freeze({
  1000: "the conversation ended normally",
  1001:
    "the platform is going away (drain, restart or connection age); " +
    "connect again with the same session id",
  1002: "one side broke the WebSocket protocol",
  1003: "one side got a kind of data it doesn't take",
  1005: "closed without a code",
  1006: "the TCP connection ended without a close frame",
  1007: "a text message was not UTF-8",
  1008: "a policy was violated",
  1009: "a frame was over the frame limit",
  1011: "the agent failed; `trunkline monitor` shows why",
  1012: "the service is restarting; connect again",
  1013: "too busy or too slow; try again later",
  1014: "the gateway got a bad answer from the agent",
});

/** Closes that end a connection, not the conversation: the session is still there. */
const RESUMABLE = new Set([1001, 1006, 1012, 1013, 1014]);

/**
 * Say in words what a close code means.
 * @param {number} code
 * @returns {string}
 */
export function explain(code) {
  const words = WORDS[code];
  if (words !== undefined) return words;
  return code >= 4000 && code <= 4999
    ? "the application's own code"
    : "a code without a meaning known here";
}

/**
 * Tell whether connecting again with the same session id makes sense.
 * @param {number} code
 * @returns {boolean}
 */
export function isResumable(code) {
  return RESUMABLE.has(code);
}

/**
 * How a connection ended.
 * @typedef {object} Close
 * @property {number} code The close code.
 * @property {string} reason The text that came with it; of the platform it names a limit's setting.
 * @property {string} words What the code means.
 */

/**
 * @param {number} code
 * @param {string} reason
 * @returns {Close}
 */
export function closeOf(code, reason) {
  return { code, reason, words: explain(code) };
}
