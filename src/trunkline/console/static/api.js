/** The platform's REST API as the pages use it. */

import { Endpoint, RefusedError, UnreachableError } from "./client/index.js";

export class Api {
  #signIn;

  /** @param {import("./signin.js").SignIn} signIn */
  constructor(signIn) {
    this.#signIn = signIn;
    this.endpoint = new Endpoint(`${location.origin}/api/projects/default`);
  }

  /** What the client takes: a token for each connection. */
  token = () => this.#signIn.token();

  /** @param {string} path Below the project. */
  url(path, query = {}) {
    const url = new URL(this.endpoint.url + path);
    url.search = new URLSearchParams({ "api-version": "v1", ...query }).toString();
    return url;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {{query?: Record<string, any>, json?: any, body?: any, signal?: AbortSignal}} [options]
   * @returns {Promise<Response>}
   */
  async send(method, path, { query, json, body, signal } = {}) {
    const headers = { authorization: `Bearer ${await this.token()}` };
    if (json !== undefined) headers["content-type"] = "application/json";
    let response;
    try {
      response = await fetch(this.url(path, query), {
        method,
        headers,
        body: json === undefined ? body : JSON.stringify(json),
        signal,
        credentials: "omit",
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new UnreachableError(location.origin, "is the platform running?", { cause: error });
    }
    if (response.ok) return response;
    const text = await response.text();
    if (response.status === 401) await this.#signIn.signOut();
    throw RefusedError.fromAnswer(response.status, text, (name) => response.headers.get(name));
  }

  async get(path, query = {}, signal) {
    return (await this.send("GET", path, { query, signal })).json();
  }

  /** Return all of a list, up to a bound, page by page. */
  async list(path, signal, { most = 500, ...query } = {}) {
    const found = [];
    let after;
    do {
      const page = await this.get(path, { limit: 100, ...query, ...(after && { after }) }, signal);
      found.push(...page.data);
      after = page.has_more ? page.last_id : undefined;
    } while (after && found.length < most);
    return found;
  }

  /** The platform's metrics: each name with its samples. */
  async metrics(signal) {
    const response = await fetch("/metrics", { signal, credentials: "omit" });
    const samples = new Map();
    for (const line of (await response.text()).split("\n")) {
      const match = /^([a-z_]+)(?:\{(.*)\})? ([0-9.e+-]+)$/.exec(line);
      if (!match) continue;
      const labels = Object.fromEntries([...(match[2] ?? "").matchAll(/(\w+)="([^"]*)"/g)].map(([, k, v]) => [k, v]));
      const all = samples.get(match[1]) ?? [];
      all.push({ labels, value: Number(match[3]) });
      samples.set(match[1], all);
    }
    const sum = (name, where = () => true) =>
      (samples.get(name) ?? []).filter(({ labels }) => where(labels)).reduce((total, { value }) => total + value, 0);
    return { sum };
  }

  /**
   * Follow a session's log.
   * @returns {AsyncGenerator<any>} Each entry: timestamp, stream, message, offset.
   */
  async *log(agent, sessionId, query, signal) {
    const path = `/agents/${agent}/sessions/${encodeURIComponent(sessionId)}:logstream`;
    const response = await this.send("GET", path, { query, signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").filter((line) => line.startsWith("data:"));
        if (data.length) yield JSON.parse(data.map((line) => line.slice(5).trim()).join("\n"));
      }
    }
  }
}

/** @param {string} sessionId */
export function sessionPath(agent, sessionId, rest = "") {
  return `/agents/${agent}/endpoint/sessions/${encodeURIComponent(sessionId)}${rest}`;
}

/**
 * Call something again and again while the page can be seen.
 * @param {() => Promise<void>} look
 * @param {number} everyMs
 * @param {AbortSignal} signal
 */
export async function poll(look, everyMs, signal) {
  while (!signal.aborted) {
    if (!document.hidden) {
      try {
        await look();
      } catch (error) {
        if (signal.aborted) return;
        console.warn(error);
      }
    }
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, everyMs);
      signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
    });
  }
}
