/** A conversation with one session, over as many connections as it takes. */

import { startSession, ticketFor, tokenOf } from "./access.js";
import { DEFAULT_BACKOFF, pauseMs } from "./backoff.js";
import { closeOf, isResumable } from "./close.js";
import { Endpoint, newSessionId } from "./endpoint.js";
import { ClosedError, RefusedError, TrunklineError, UnreachableError } from "./errors.js";

/** @typedef {import("./access.js").TicketSource} TicketSource */
/** @typedef {import("./access.js").TokenSource} TokenSource */
/** @typedef {import("./backoff.js").Backoff} Backoff */
/** @typedef {import("./close.js").Close} Close */
/** @typedef {import("./endpoint.js").UrlForm} UrlForm */
/** @typedef {import("./socket.js").Access} Access */
/** @typedef {import("./socket.js").Dial} Dial */
/** @typedef {import("./socket.js").Message} Message */
/** @typedef {import("./socket.js").Socket} Socket */

/**
 * @typedef {object} Handlers
 * @property {(message: Message) => void} [message] Each message, as it comes. With it, iterating
 *   yields nothing.
 * @property {() => void} [open] There is a connection, the first or a further one.
 * @property {(close: Close) => void} [lost] The connection was lost, and is being made again.
 * @property {(close: Close) => void} [closed] The conversation is over.
 */

/**
 * @typedef {object} ConnectOptions
 * @property {string | URL | Endpoint} endpoint `https://HOST/api/projects/PROJECT`
 * @property {string} agent
 * @property {string} [sessionId] Come back to this session; else there is a new one.
 * @property {TokenSource} [token] Either this or `ticket`. In a browser a token buys the tickets.
 * @property {TicketSource} [ticket]
 * @property {UrlForm} [form] `"agent"`, or `"dispatcher"` for the preview's form.
 * @property {Record<string, string>} [query] What the agent is to see of the query.
 * @property {Backoff | false} [backoff] `false`: a lost connection is the end.
 * @property {Handlers} [on]
 * @property {number} [maxWaitingBytes] What may wait to be iterated over before the conversation
 *   ends: 16 MiB. A browser can't ask an agent to wait.
 * @property {number} [maxBufferedBytes] What may wait to be sent before `send` waits: 256 KiB.
 * @property {AbortSignal} [signal] Ends it, as `close()` does.
 */

const MIB = 1024 * 1024;
const DRAIN_POLL_MS = 10;
const CONNECT_TIMEOUT_MS = 120_000;

/**
 * Made by `connect()`.
 *
 * When the connection is lost, or the platform asks to come back (1001, 1012, 1013, 1014), a new
 * one is made to the same session. Nothing is repeated: what the agent sent while nobody was
 * connected is gone, and so may be what was sent last. Any other close ends the conversation.
 */
export class Conversation {
  /** @type {Endpoint} */ #endpoint;
  /** @type {ConnectOptions} */ #options;
  /** @type {Dial} */ #dial;
  /** @type {Socket | null} */ #socket = null;
  /** @type {Close | null} */ #close = null;
  /** @type {Inbox} */ #inbox;
  #end = new AbortController();
  #opened = deferred();
  /** @type {Deferred<Close>} */ #closed = deferred();
  #isFirst = true;

  /**
   * @param {ConnectOptions} options
   * @param {Dial} dial
   */
  constructor(options, dial) {
    if ((options.token === undefined) === (options.ticket === undefined)) {
      throw new TrunklineError("invalid_request", "connect() takes either a token or a ticket source");
    }
    this.#endpoint =
      options.endpoint instanceof Endpoint ? options.endpoint : new Endpoint(options.endpoint);
    this.#options = options;
    this.#dial = dial;
    this.#inbox = new Inbox(options.maxWaitingBytes ?? 16 * MIB);
    /** The session all the connections are to. Give it to `connect()` to come back. */
    this.sessionId = options.sessionId ?? newSessionId();
    /** How many connections it took so far. */
    this.connections = 0;
    // Checked now, so that a wrong name fails the call and isn't tried again.
    this.#endpoint.websocketUrl(options.agent, this.sessionId, options);
    this.#opened.promise.catch(() => {});
    options.signal?.addEventListener("abort", () => this.close(), { once: true });
    if (options.signal?.aborted) this.close();
    else void this.#run();
  }

  /** Whether there is a connection now. */
  get isOpen() {
    return this.#socket !== null;
  }

  /** Resolves when the conversation is over, with how it ended. Never rejects. */
  get closed() {
    return this.#closed.promise;
  }

  /** Resolves when there is a connection; rejects if there will be none any more. */
  get opened() {
    return this.#opened.promise;
  }

  /**
   * Send one message as one frame: text if it is a string, else binary. Waits while there is no
   * connection, and while too much waits to be sent.
   * @param {Message | ArrayBuffer} message
   * @returns {Promise<void>}
   * @throws {ClosedError} If the conversation is over.
   */
  async send(message) {
    for (;;) {
      await this.#opened.promise;
      if (this.trySend(message)) return;
      if (this.#close) throw new ClosedError(this.#close);
      await new Promise((resolve) => setTimeout(resolve, DRAIN_POLL_MS));
    }
  }

  /**
   * Send one message if that can be done at once: what is live, as sound is, is worthless later.
   * @param {Message | ArrayBuffer} message
   * @returns {boolean} Whether it was sent.
   */
  trySend(message) {
    const most = this.#options.maxBufferedBytes ?? MIB / 4;
    if (this.#socket === null || this.#socket.bufferedBytes() > most) return false;
    return this.#socket.send(message instanceof ArrayBuffer ? new Uint8Array(message) : message);
  }

  /**
   * End the conversation. Twice is fine.
   * @param {number} [code] 1000, or one of your own from 4000 to 4999.
   * @param {string} [reason]
   */
  close(code = 1000, reason = "") {
    if (this.#end.signal.aborted) return;
    this.#end.abort(ClosedError.of(code, reason));
    if (this.#socket) this.#socket.close(code, reason);
    else this.#finish(closeOf(code, reason));
  }

  /**
   * Yield messages until the conversation ends.
   * @returns {AsyncGenerator<Message, void, void>}
   * @throws {ClosedError} If it ended otherwise than by 1000, or by a close without a code.
   */
  async *[Symbol.asyncIterator]() {
    for (;;) {
      const message = await this.#inbox.next();
      if (message === undefined) break;
      yield message;
    }
    const close = await this.closed;
    if (close.code !== 1000 && close.code !== 1005) throw new ClosedError(close);
  }

  async #run() {
    const backoff = this.#options.backoff;
    const waits = { ...DEFAULT_BACKOFF, ...(backoff || {}) };
    try {
      for (;;) {
        const close = await this.#connection(backoff === false ? null : waits);
        if (backoff === false || this.#end.signal.aborted || !isResumable(close.code)) {
          this.#finish(close);
          return;
        }
        this.#opened = deferred();
        this.#opened.promise.catch(() => {});
        this.#options.on?.lost?.(close);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /**
   * Make one connection and wait until it ends.
   * @param {Required<Backoff> | null} waits
   * @returns {Promise<Close>}
   */
  async #connection(waits) {
    /** @type {Deferred<Close>} */
    const ended = deferred();
    const socket = await this.#attempts(waits, (close) => {
      this.#socket = null;
      ended.resolve(close);
    });
    this.#socket = socket;
    this.#isFirst = false;
    this.connections += 1;
    if (socket.sessionId) this.sessionId = socket.sessionId;
    this.#opened.resolve();
    this.#options.on?.open?.();
    return ended.promise;
  }

  /**
   * @param {Required<Backoff> | null} waits
   * @param {(close: Close) => void} closed
   * @returns {Promise<Socket>}
   */
  async #attempts(waits, closed) {
    // The first connection fails as it fails; only a conversation under way is worth waiting for.
    const patient = this.#isFirst ? null : waits;
    const deadline = performance.now() + (patient?.giveUpAfterMs ?? 0);
    for (let attempt = 0; ; attempt += 1) {
      if (patient) await this.#pause(pauseMs(patient, attempt, Math.random()));
      try {
        return await this.#open(closed);
      } catch (error) {
        const mayPass =
          error instanceof UnreachableError || (error instanceof RefusedError && error.mayPass);
        if (!mayPass || performance.now() >= deadline) throw error;
        if (error instanceof RefusedError && error.retryAfterS) {
          await this.#pause(error.retryAfterS * 1000);
        }
      }
    }
  }

  /**
   * @param {(close: Close) => void} closed
   * @returns {Promise<Socket>}
   */
  async #open(closed) {
    const signal = AbortSignal.any([this.#end.signal, AbortSignal.timeout(CONNECT_TIMEOUT_MS)]);
    const access = await this.#access(signal);
    const url = this.#endpoint.websocketUrl(this.#options.agent, this.sessionId, this.#options);
    try {
      return await this.#dial(
        url,
        access,
        {
          message: (message) => this.#receive(message),
          closed: (code, reason) => closed(closeOf(code, reason)),
        },
        signal,
      );
    } catch (error) {
      const { token, agent } = this.#options;
      if (!(error instanceof UnreachableError) || token === undefined) throw error;
      // Where the refusal can't be seen, asking for the session tells it.
      await startSession(this.#endpoint, agent, this.sessionId, await tokenOf(token), signal);
      throw error;
    }
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Promise<Access>}
   */
  async #access(signal) {
    const { agent, token, ticket } = this.#options;
    const sessionId = this.sessionId;
    if (ticket) return { ticket: await ticket({ project: this.#endpoint.project, agent, sessionId }) };
    const bearer = await tokenOf(/** @type {TokenSource} */ (token));
    if (canSendHeaders(this.#dial)) return { token: bearer };
    return { ticket: await ticketFor(this.#endpoint, agent, sessionId, bearer, signal) };
  }

  /** @param {Message} message */
  #receive(message) {
    const handler = this.#options.on?.message;
    if (handler) handler(message);
    else if (!this.#inbox.put(message)) {
      this.close(4000, "the page didn't take the messages that came");
    }
  }

  /** @param {number} ms */
  async #pause(ms) {
    const { signal } = this.#end;
    await new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const stop = () => {
        clearTimeout(timer);
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        signal.removeEventListener("abort", stop);
        resolve(undefined);
      }, ms);
      signal.addEventListener("abort", stop, { once: true });
    });
  }

  /** @param {unknown} error */
  #fail(error) {
    this.#opened.reject(error);
    const close =
      error instanceof ClosedError ? error.close : closeOf(1006, describe(error));
    this.#finish(close);
  }

  /** @param {Close} close */
  #finish(close) {
    if (this.#close) return;
    this.#close = close;
    this.#end.abort(new ClosedError(close));
    this.#opened.reject(new ClosedError(close));
    this.#inbox.end();
    this.#closed.resolve(close);
    this.#options.on?.closed?.(close);
  }
}

/** Messages that nobody has taken yet, up to a bound. */
class Inbox {
  /** @type {Message[]} */ #waiting = [];
  /** @type {((message: Message | undefined) => void) | null} */ #taker = null;
  #bytes = 0;
  #ended = false;
  #most;

  /** @param {number} most */
  constructor(most) {
    this.#most = most;
  }

  /** @param {Message} message */
  put(message) {
    if (this.#taker) {
      this.#taker(message);
      this.#taker = null;
      return true;
    }
    this.#bytes += message.length;
    this.#waiting.push(message);
    return this.#bytes <= this.#most;
  }

  end() {
    this.#ended = true;
    this.#taker?.(undefined);
    this.#taker = null;
  }

  /** @returns {Promise<Message | undefined>} Undefined at the end. */
  async next() {
    const message = this.#waiting.shift();
    if (message !== undefined) {
      this.#bytes -= message.length;
      return message;
    }
    if (this.#ended) return undefined;
    return new Promise((resolve) => {
      this.#taker = resolve;
    });
  }
}

/** @type {WeakSet<Dial>} */
const withHeaders = new WeakSet();

/**
 * Say that a way to open connections sends headers, so that a token needs no ticket.
 * @param {Dial} dial
 * @returns {Dial}
 */
export function sendsHeaders(dial) {
  withHeaders.add(dial);
  return dial;
}

/** @param {Dial} dial */
function canSendHeaders(dial) {
  return withHeaders.has(dial);
}

/** @param {unknown} error */
function describe(error) {
  return error instanceof Error ? error.message : String(error);
}

/**
 * @template T
 * @typedef {{promise: Promise<T>, resolve: (value: T) => void, reject: (error: unknown) => void}} Deferred
 */

/**
 * @template [T=void]
 * @returns {Deferred<T>}
 */
function deferred() {
  /** @type {any} */
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}
