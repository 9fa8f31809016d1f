/**
 * Talks to real-time agents over one WebSocket, from a browser.
 * @module
 */

import { Conversation } from "./conversation.js";
import { dialBrowser } from "./socket.js";

export * from "./exports.js";

/** @typedef {import("./conversation.js").ConnectOptions} ConnectOptions */
/** @typedef {import("./conversation.js").Handlers} Handlers */
/** @typedef {import("./close.js").Close} Close */
/** @typedef {import("./socket.js").Message} Message */

/**
 * Open a conversation, and wait until it is open.
 * @param {ConnectOptions} options
 * @returns {Promise<Conversation>}
 */
export async function connect(options) {
  const conversation = new Conversation(options, dialBrowser);
  await conversation.opened;
  return conversation;
}
