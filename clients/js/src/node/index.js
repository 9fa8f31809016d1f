/**
 * Talks to real-time agents over one WebSocket, from Node.
 * @module
 */

import { Conversation, sendsHeaders } from "../conversation.js";
import { dialNode } from "./dial.js";

export * from "../exports.js";

/** @typedef {import("../conversation.js").ConnectOptions} ConnectOptions */
/** @typedef {import("../conversation.js").Handlers} Handlers */
/** @typedef {import("../close.js").Close} Close */
/** @typedef {import("../socket.js").Message} Message */

const dial = sendsHeaders(dialNode);

/**
 * Open a conversation, and wait until it is open.
 * @param {ConnectOptions} options
 * @returns {Promise<Conversation>}
 */
export async function connect(options) {
  const conversation = new Conversation(options, dial);
  await conversation.opened;
  return conversation;
}
