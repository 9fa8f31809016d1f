/** A WebSocket over node:http, which every Node has: with a token in a header, and refusals seen. */

import { createHash, randomBytes } from "node:crypto";
import * as http from "node:http";
import * as https from "node:https";

import { RefusedError, UnreachableError } from "../errors.js";
import { ticketProtocols } from "../socket.js";
import { Decoder, FrameError, Opcode, encode } from "./frames.js";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
const MAX_REFUSAL_BYTES = 64 * 1024;
const CLOSE_TIMEOUT_MS = 5_000;

/** @typedef {import("../socket.js").SocketEvents} SocketEvents */
/** @typedef {import("../socket.js").Socket} Socket */

/** @type {import("../socket.js").Dial} */
export function dialNode(url, access, events, signal) {
  const address = new URL(url);
  address.protocol = url.protocol === "wss:" ? "https:" : "http:";
  const key = randomBytes(16).toString("base64");
  return new Promise((resolve, reject) => {
    const request = (address.protocol === "https:" ? https : http).get(address, {
      agent: false,
      signal,
      headers: {
        connection: "Upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": key,
        "user-agent": "trunkline-client-js",
        ...("token" in access
          ? { authorization: `Bearer ${access.token}` }
          : { "sec-websocket-protocol": ticketProtocols(access.ticket).join(", ") }),
      },
    });
    request.on("error", (error) => {
      reject(signal.aborted ? signal.reason : new UnreachableError(url.origin, error.message));
    });
    request.on("response", (response) => {
      refusalOf(response).then(reject, (error) => reject(new UnreachableError(url.origin, String(error))));
    });
    request.on("upgrade", (response, stream, head) => {
      const expected = createHash("sha1").update(key + GUID).digest("base64");
      if (response.headers["sec-websocket-accept"] !== expected) {
        stream.destroy();
        reject(new UnreachableError(url.origin, "its answer to the upgrade is wrong"));
        return;
      }
      const named = response.headers["x-agent-session-id"];
      const sessionId = typeof named === "string" ? named : null;
      resolve(new NodeSocket(/** @type {import("node:net").Socket} */ (stream), head, sessionId, events));
    });
  });
}

/** @param {http.IncomingMessage} response */
async function refusalOf(response) {
  let body = "";
  for await (const part of response.setEncoding("utf8")) {
    body += part;
    if (body.length > MAX_REFUSAL_BYTES) break;
  }
  const header = (/** @type {string} */ name) => {
    const value = response.headers[name];
    return typeof value === "string" ? value : null;
  };
  return RefusedError.fromAnswer(response.statusCode ?? 0, body, header);
}

/** @implements {Socket} */
class NodeSocket {
  #stream;
  #events;
  #decoder = new Decoder(MAX_MESSAGE_BYTES);
  /** @type {{code: number, reason: string} | null} */ #close = null;
  #isClosing = false;

  /**
   * @param {import("node:net").Socket} stream
   * @param {Buffer} head
   * @param {string | null} sessionId
   * @param {SocketEvents} events
   */
  constructor(stream, head, sessionId, events) {
    this.#stream = stream;
    this.#events = events;
    this.sessionId = sessionId;
    stream.setNoDelay(true);
    stream.setTimeout(0);
    stream.on("data", (data) => this.#receive(data));
    stream.on("error", () => {});
    stream.on("end", () => stream.destroy());
    stream.on("close", () => {
      const { code, reason } = this.#close ?? { code: 1006, reason: "" };
      events.closed(code, reason);
    });
    // What came behind the answer is for whoever is told that it is open, so not at once.
    if (head.length) queueMicrotask(() => this.#receive(head));
  }

  bufferedBytes() {
    return this.#stream.writableLength;
  }

  /** @param {import("../socket.js").Message} message */
  send(message) {
    if (this.#isClosing) return false;
    if (typeof message === "string") this.#write(Opcode.TEXT, Buffer.from(message));
    else this.#write(Opcode.BINARY, message);
    return true;
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  close(code, reason) {
    if (this.#isClosing) return;
    const said = Buffer.from(reason).subarray(0, 123);
    const payload = Buffer.alloc(2 + said.length);
    payload.writeUInt16BE(code, 0);
    said.copy(payload, 2);
    this.#write(Opcode.CLOSE, payload);
    this.#isClosing = true;
    const timer = setTimeout(() => this.#stream.destroy(), CLOSE_TIMEOUT_MS);
    this.#stream.once("close", () => clearTimeout(timer));
  }

  /**
   * @param {number} opcode
   * @param {Uint8Array} payload
   */
  #write(opcode, payload) {
    if (!this.#isClosing) this.#stream.write(encode(opcode, payload, randomBytes(4)));
  }

  /** @param {Buffer} data */
  #receive(data) {
    if (this.#close) return;
    try {
      for (const { opcode, payload } of this.#decoder.feed(data)) this.#handle(opcode, payload);
    } catch (error) {
      const code = error instanceof FrameError ? error.closeCode : 1007;
      const reason = error instanceof Error ? error.message : String(error);
      this.close(code, reason);
      this.#close ??= { code, reason };
      this.#stream.end();
    }
  }

  /**
   * @param {number} opcode
   * @param {Buffer} payload
   */
  #handle(opcode, payload) {
    switch (opcode) {
      case Opcode.TEXT:
        this.#events.message(new TextDecoder("utf-8", { fatal: true }).decode(payload));
        break;
      case Opcode.BINARY:
        this.#events.message(new Uint8Array(payload));
        break;
      case Opcode.PING:
        this.#write(Opcode.PONG, payload);
        break;
      case Opcode.CLOSE: {
        const code = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
        this.#close = { code, reason: payload.subarray(2).toString() };
        if (code === 1005) this.#write(Opcode.CLOSE, Buffer.alloc(0));
        else this.close(code, "");
        // The server ends the TCP connection; nothing more is to be said.
        this.#stream.end();
        break;
      }
      default:
    }
  }
}
