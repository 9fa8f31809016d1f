/** What can go wrong. Every error has a stable `code`. */

import { closeOf } from "./close.js";

/** @typedef {import("./close.js").Close} Close */

export class TrunklineError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {ErrorOptions} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.name = new.target.name;
    /** Stable, for programs. The message is for people. */
    this.code = code;
  }
}

/** The platform said no, and why. */
export class RefusedError extends TrunklineError {
  /**
   * @param {number} status
   * @param {string} code
   * @param {string} message
   * @param {{requestId?: string | null, retryAfterS?: number | null}} [details]
   */
  constructor(status, code, message, { requestId = null, retryAfterS = null } = {}) {
    super(code, message);
    /** The HTTP status. */
    this.status = status;
    /** What to look for in the platform's log. */
    this.requestId = requestId;
    /** Seconds after which the platform asks to be tried again, if it does. */
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request may be answered another time. */
  get mayPass() {
    return [408, 424, 429, 500, 502, 503, 504].includes(this.status);
  }

  /**
   * Read an answer of the platform that isn't a success.
   * @param {number} status
   * @param {string} body
   * @param {(name: string) => string | null} header
   * @returns {RefusedError}
   */
  static fromAnswer(status, body, header) {
    let code = "bad_answer";
    let message = `the answer has status ${status}, and isn't the platform's`;
    try {
      const error = JSON.parse(body).error;
      if (typeof error.code === "string" && typeof error.message === "string") {
        ({ code, message } = error);
      }
    } catch {
      // Something in between answered: its status is all there is to tell.
    }
    const retryAfterS = Number.parseFloat(header("retry-after") ?? "");
    return new RefusedError(status, code, message, {
      requestId: header("x-request-id"),
      retryAfterS: Number.isFinite(retryAfterS) ? retryAfterS : null,
    });
  }
}

/** Nothing answers, or the connection broke before there was an answer. */
export class UnreachableError extends TrunklineError {
  /**
   * @param {string} where
   * @param {string} why
   * @param {ErrorOptions} [options]
   */
  constructor(where, why, options) {
    super("unreachable", `${where} can't be reached: ${why}`, options);
  }
}

/** The conversation is over. */
export class ClosedError extends TrunklineError {
  /** @param {Close} close */
  constructor(close) {
    const said = close.reason ? ` (${close.reason})` : "";
    super("connection_closed", `closed with ${close.code}: ${close.words}${said}`);
    /** The code, the reason, and what they mean. */
    this.close = close;
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  static of(code, reason) {
    return new ClosedError(closeOf(code, reason));
  }
}
