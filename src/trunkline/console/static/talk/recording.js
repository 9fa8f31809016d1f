/** Recordings of conversations, in the format that docs/reference/recordings.md describes. */

const MAGIC = Uint8Array.of(0x54, 0x52, 0x4b, 0x52, 0x45, 0x43, 1, 0x0a); // TRKREC, version 1
const TEXT = 1;
const BINARY = 2;
const MARK = 15;
const FIN = 0x10;
const FROM_AGENT = 0x80;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Takes down frames with their times, up to a bound. */
export class Recorder {
  #parts = [];
  #last;
  #mostBytes;
  bytes = 0;

  /** @param {object} about What the header says: agent, endpoint. */
  constructor(about, sessionId, mostBytes = 256 * 1024 * 1024) {
    this.#mostBytes = mostBytes;
    const header = encoder.encode(JSON.stringify({ ...about, started_at: new Date().toISOString() }));
    this.#push(MAGIC, number(header.length), header);
    this.#last = performance.now();
    this.#mark({ event: "opened", session_id: sessionId });
  }

  /** @param {"up" | "down"} side @param {string | Uint8Array} message */
  frame(side, message) {
    if (this.bytes > this.#mostBytes) return;
    const payload = typeof message === "string" ? encoder.encode(message) : message.slice();
    const opcode = typeof message === "string" ? TEXT : BINARY;
    this.#record(opcode | FIN | (side === "down" ? FROM_AGENT : 0), payload);
  }

  /** @param {{code: number, reason: string}} close */
  lost({ code, reason }) {
    this.#mark({ event: "lost", code, reason });
  }

  opened(sessionId) {
    this.#mark({ event: "opened", session_id: sessionId });
  }

  /** @returns {Blob} */
  file() {
    return new Blob(this.#parts, { type: "application/octet-stream" });
  }

  #mark(what) {
    this.#record(MARK, encoder.encode(JSON.stringify(what)));
  }

  #record(kind, payload) {
    const now = performance.now();
    const us = Math.max(0, Math.round((now - this.#last) * 1000));
    this.#last = now;
    this.#push(Uint8Array.of(kind), number(us), number(payload.length), payload);
  }

  #push(...parts) {
    for (const part of parts) {
      this.#parts.push(part);
      this.bytes += part.length;
    }
  }
}

/** LEB128, unsigned. @param {number} value */
function number(value) {
  const bytes = [];
  let left = value;
  do {
    const low = left % 128;
    left = Math.floor(left / 128);
    bytes.push(left > 0 ? low | 0x80 : low);
  } while (left > 0);
  return Uint8Array.from(bytes);
}

/**
 * Read what the client's side sent: whole messages, with their times in ms since the beginning.
 * @param {Uint8Array} bytes
 * @returns {{header: any, messages: {atMs: number, message: string | Uint8Array}[]}}
 */
export function clientSideOf(bytes) {
  if (!MAGIC.every((byte, i) => bytes[i] === byte)) throw new Error("this is no recording of version 1");
  let at = MAGIC.length;
  const next = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      if (at >= bytes.length) throw new RangeError("the recording ends within a record");
      const byte = bytes[at++];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  const take = (size) => {
    if (at + size > bytes.length) throw new RangeError("the recording ends within a record");
    at += size;
    return bytes.subarray(at - size, at);
  };
  const header = JSON.parse(decoder.decode(take(next())));
  const messages = [];
  let us = 0;
  let parts = [];
  let first = TEXT;
  try {
    while (at < bytes.length) {
      const [kind] = take(1);
      us += next();
      const payload = take(next());
      const opcode = kind & 0x0f;
      if (kind & FROM_AGENT || opcode > BINARY) continue;
      if (opcode !== 0) first = opcode;
      parts.push(payload);
      if (!(kind & FIN)) continue;
      const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
      parts.reduce((offset, part) => (whole.set(part, offset), offset + part.length), 0);
      parts = [];
      messages.push({ atMs: us / 1000, message: first === TEXT ? decoder.decode(whole) : whole });
    }
  } catch (error) {
    // A recorder that was killed: what is whole counts.
    if (!(error instanceof RangeError)) throw error;
  }
  return { header, messages };
}
