/** RFC 6455's frames as a client reads and writes them. No I/O. */

const FIN = 0x80;
const MASKED = 0x80;
const RSV = 0x70;

export const Opcode = Object.freeze({
  CONTINUATION: 0,
  TEXT: 1,
  BINARY: 2,
  CLOSE: 8,
  PING: 9,
  PONG: 10,
});

/** The server broke the protocol; `closeCode` is what to close with. */
export class FrameError extends Error {
  /**
   * @param {number} closeCode
   * @param {string} message
   */
  constructor(closeCode, message) {
    super(message);
    this.closeCode = closeCode;
  }
}

/**
 * Return one whole frame, masked (section 5.3).
 * @param {number} opcode
 * @param {Uint8Array} payload
 * @param {Uint8Array} mask Four bytes nobody can predict.
 * @returns {Buffer}
 */
export function encode(opcode, payload, mask) {
  const size = payload.length;
  const extra = size < 126 ? 0 : size < 65536 ? 2 : 8;
  const frame = Buffer.allocUnsafe(6 + extra + size);
  frame[0] = FIN | opcode;
  frame[1] = MASKED | (extra === 0 ? size : extra === 2 ? 126 : 127);
  if (extra === 2) frame.writeUInt16BE(size, 2);
  if (extra === 8) frame.writeBigUInt64BE(BigInt(size), 2);
  const start = 6 + extra;
  frame.set(mask, start - 4);
  for (let i = 0; i < size; i += 1) {
    frame[start + i] = /** @type {number} */ (payload[i]) ^ /** @type {number} */ (mask[i & 3]);
  }
  return frame;
}

/**
 * @typedef {{opcode: number, payload: Buffer}} Whole A control frame, or a message put together.
 */

/** Puts messages together out of bytes that may be split anywhere. */
export class Decoder {
  /** @type {Buffer} */ #bytes = Buffer.alloc(0);
  /** What came since, and isn't enough yet. @type {Buffer[]} */ #coming = [];
  #comingBytes = 0;
  /** How many bytes the next frame takes, as far as that can be known. */
  #needed = 2;
  /** @type {Buffer[]} */ #parts = [];
  #opcode = 0;
  #size = 0;
  #most;

  /** @param {number} most The largest message taken, in bytes. */
  constructor(most) {
    this.#most = most;
  }

  /**
   * Take bytes; yield what they complete.
   * @param {Buffer} data
   * @returns {Generator<Whole, void, void>}
   * @throws {FrameError}
   */
  *feed(data) {
    this.#coming.push(data);
    this.#comingBytes += data.length;
    // Putting them together at each read would copy a large message once for every part of it.
    if (this.#bytes.length + this.#comingBytes < this.#needed) return;
    this.#bytes = Buffer.concat([this.#bytes, ...this.#coming]);
    this.#coming = [];
    this.#comingBytes = 0;
    for (;;) {
      const frame = this.#next();
      if (frame === null) return;
      const whole = this.#take(frame);
      if (whole !== null) yield whole;
    }
  }

  /** @returns {{first: number, payload: Buffer} | null} */
  #next() {
    const bytes = this.#bytes;
    if (!this.#has(2)) return null;
    const first = bytes.readUInt8(0);
    const second = bytes.readUInt8(1);
    if (first & RSV) throw new FrameError(1002, "a reserved bit is set");
    if (second & MASKED) throw new FrameError(1002, "a server's frame is masked");
    let size = second;
    let start = 2;
    if (size === 126) {
      if (!this.#has(4)) return null;
      size = bytes.readUInt16BE(2);
      start = 4;
    } else if (size === 127) {
      if (!this.#has(10)) return null;
      size = Number(bytes.readBigUInt64BE(2));
      start = 10;
    }
    if (size + this.#size > this.#most) {
      throw new FrameError(1009, `a message is over ${this.#most} bytes`);
    }
    if (!this.#has(start + size)) return null;
    this.#bytes = bytes.subarray(start + size);
    return { first, payload: bytes.subarray(start, start + size) };
  }

  /** @param {number} count */
  #has(count) {
    this.#needed = count;
    return this.#bytes.length >= count;
  }

  /**
   * @param {{first: number, payload: Buffer}} frame
   * @returns {Whole | null}
   */
  #take({ first, payload }) {
    const opcode = first & 0x0f;
    const isFinal = (first & FIN) !== 0;
    if (opcode >= Opcode.CLOSE) {
      if (!isFinal || payload.length > 125 || opcode > Opcode.PONG) {
        throw new FrameError(1002, "a control frame is split, too long or unknown");
      }
      return { opcode, payload };
    }
    if (opcode > Opcode.BINARY) throw new FrameError(1002, "a frame has an unknown opcode");
    if ((opcode === Opcode.CONTINUATION) !== this.#opcode > 0) {
      throw new FrameError(1002, "a message's frames are out of order");
    }
    this.#opcode ||= opcode;
    this.#size += payload.length;
    this.#parts.push(payload);
    if (!isFinal) return null;
    const whole = { opcode: this.#opcode, payload: Buffer.concat(this.#parts) };
    this.#parts = [];
    this.#opcode = this.#size = 0;
    return whole;
  }
}
