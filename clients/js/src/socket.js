/** What a conversation needs of a WebSocket, and the one browsers have. */

import { TrunklineError, UnreachableError } from "./errors.js";

/** @typedef {string | Uint8Array<ArrayBuffer>} Message */

/**
 * How a socket tells what happens. `closed` is called once, and last.
 * @typedef {object} SocketEvents
 * @property {(message: Message) => void} message
 * @property {(code: number, reason: string) => void} closed
 */

/**
 * One open connection.
 * @typedef {object} Socket
 * @property {string | null} sessionId What the platform says it is to; null if it can't be seen.
 * @property {() => number} bufferedBytes What waits to be sent.
 * @property {(message: Message) => boolean} send Whether it was sent: not once it is closing.
 * @property {(code: number, reason: string) => void} close
 */

/**
 * Opens connections.
 * @callback Dial
 * @param {URL} url
 * @param {Access} access
 * @param {SocketEvents} events
 * @param {AbortSignal} signal Ends the attempt.
 * @returns {Promise<Socket>}
 */

/**
 * What lets a connection in: a bearer token where headers can be sent, else a one-use ticket.
 * @typedef {{token: string} | {ticket: string}} Access
 */

/**
 * The subprotocol that says that a ticket comes with it. The platform answers with this one and
 * never repeats the ticket; unlike a query, it stands in no proxy's log of addresses.
 */
const SENTINEL = "trunkline.ticket";

/**
 * Return the subprotocols that carry a ticket: a browser's WebSocket can't send headers.
 * @param {string} ticket
 * @returns {string[]}
 */
export function ticketProtocols(ticket) {
  return [`${SENTINEL}.${ticket}`, SENTINEL];
}

/** @type {Dial} */
export function dialBrowser(url, access, events, signal) {
  if (!("ticket" in access)) {
    throw new TrunklineError("no_ticket", "a browser's WebSocket can't send a token: get a ticket");
  }
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, ticketProtocols(access.ticket));
    socket.binaryType = "arraybuffer";
    const abort = () => {
      socket.onopen = socket.onclose = socket.onmessage = null;
      socket.close();
      reject(signal.reason);
    };
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    socket.onopen = () => {
      signal.removeEventListener("abort", abort);
      socket.onclose = ({ code, reason }) => events.closed(code, reason);
      resolve({
        sessionId: null,
        bufferedBytes: () => socket.bufferedAmount,
        send: (message) => {
          if (socket.readyState !== WebSocket.OPEN) return false;
          socket.send(message);
          return true;
        },
        close: (code, reason) => socket.close(code, reason),
      });
    };
    socket.onmessage = ({ data }) => {
      events.message(typeof data === "string" ? data : new Uint8Array(data));
    };
    socket.onclose = () => {
      signal.removeEventListener("abort", abort);
      // Browsers keep from a page why a connection wasn't opened.
      reject(new UnreachableError(url.origin, "the connection wasn't opened"));
    };
  });
}
