/** How a conversation gets in: from a token or a ticket to what a socket takes. */

import { RefusedError, TrunklineError, UnreachableError } from "./errors.js";

/** @typedef {import("./endpoint.js").Endpoint} Endpoint */
/** @typedef {import("./socket.js").Access} Access */

/**
 * What a ticket is for.
 * @typedef {object} TicketRequest
 * @property {string} project
 * @property {string} agent
 * @property {string} sessionId
 */

/**
 * A bearer token, or what gets one. A function is asked anew for every connection.
 * @typedef {string | (() => string | Promise<string>)} TokenSource
 */

/**
 * Gets a one-use ticket, from a server of yours that has a token. Asked anew for every connection.
 * @typedef {(request: TicketRequest) => string | Promise<string>} TicketSource
 */

/**
 * Return the token that a source has now.
 * @param {TokenSource} source
 * @returns {Promise<string>}
 */
export async function tokenOf(source) {
  return typeof source === "function" ? source() : source;
}

/**
 * Send one request to the platform.
 * @param {URL} url
 * @param {string} token
 * @param {RequestInit} [init]
 * @returns {Promise<Response>}
 * @throws {RefusedError} If the answer isn't a success.
 */
export async function request(url, token, init = {}) {
  let response;
  try {
    response = await fetch(url, {
      ...init,
      headers: { ...init.headers, authorization: `Bearer ${token}` },
      // A redirect would take the token to wherever it points.
      redirect: "error",
      credentials: "omit",
    });
  } catch (error) {
    if (init.signal?.aborted) throw init.signal.reason;
    throw new UnreachableError(url.origin, String(error), { cause: error });
  }
  if (!response.ok) {
    const header = (/** @type {string} */ name) => response.headers.get(name);
    throw RefusedError.fromAnswer(response.status, await response.text(), header);
  }
  return response;
}

/**
 * Get a one-use ticket with a token.
 * @param {Endpoint} endpoint
 * @param {string} agent
 * @param {string} sessionId
 * @param {string} token
 * @param {AbortSignal} [signal]
 * @returns {Promise<string>}
 */
export async function ticketFor(endpoint, agent, sessionId, token, signal) {
  const page = /** @type {{location?: {origin?: string}}} */ (globalThis).location;
  const response = await request(endpoint.agentUrl(agent, "/endpoint/tickets"), token, {
    method: "POST",
    headers: { "content-type": "application/json" },
    // Of another page it is worthless, then.
    body: JSON.stringify({ agent_session_id: sessionId, ...(page?.origin && { origin: page.origin }) }),
    ...(signal && { signal }),
  });
  const { ticket } = await response.json();
  if (typeof ticket !== "string") {
    throw new TrunklineError("bad_answer", "the platform's answer has no ticket");
  }
  return ticket;
}

/**
 * Ask the platform to start a session, for what it says if it can't.
 * @param {Endpoint} endpoint
 * @param {string} agent
 * @param {string} sessionId
 * @param {string} token
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
export async function startSession(endpoint, agent, sessionId, token, signal) {
  await request(endpoint.agentUrl(agent, "/endpoint/sessions"), token, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ agent_session_id: sessionId }),
    signal,
  });
}
