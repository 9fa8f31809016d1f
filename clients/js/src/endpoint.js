/** Where a project is, and the addresses below it. No I/O. */

import { TrunklineError } from "./errors.js";

const API_VERSION = "v1";
const RULE = "an endpoint looks like https://HOST/api/projects/PROJECT";
const AGENT_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const SESSION_ID = /^[A-Za-z0-9._:-]{1,256}$/;

/**
 * The two forms of a WebSocket's address: the one with names in its path, and the preview's.
 * @typedef {"agent" | "dispatcher"} UrlForm
 */

/** One project on one platform. */
export class Endpoint {
  /** @param {string | URL} address `http(s)://HOST[:PORT]/api/projects/PROJECT` */
  constructor(address) {
    const url = parse(address);
    const match = /^\/api\/projects\/([^/]+)\/?$/.exec(url.pathname);
    if (url.pathname !== "/" && !match) throw wrong(`${url.origin}${url.pathname} isn't one`);
    /** Scheme, host and port. */
    this.origin = url.origin;
    /** The project's name. */
    this.project = match?.[1] === undefined ? "default" : decodeURIComponent(match[1]);
    /** Whether nothing crosses a network. */
    this.isLoopback = isLoopback(url.hostname);
    if (url.protocol === "http:" && !this.isLoopback && !isSecureHere(url)) {
      throw new TrunklineError(
        "insecure_endpoint",
        `${this.origin} is plain http on another machine: your token would be readable on the ` +
          "way, so it isn't sent",
      );
    }
  }

  /** The project's address. */
  get url() {
    return `${this.origin}/api/projects/${encodeURIComponent(this.project)}`;
  }

  /**
   * Return the address of an agent's, with the API version.
   * @param {string} agent
   * @param {string} path What comes after the agent's name, with a `/` or `:` in front.
   * @param {Record<string, string>} [query]
   * @returns {URL}
   */
  agentUrl(agent, path, query = {}) {
    checkAgent(agent);
    const url = new URL(`${this.url}/agents/${agent}${path}`);
    url.search = new URLSearchParams({ "api-version": API_VERSION, ...query }).toString();
    return url;
  }

  /**
   * Return the address of an agent's WebSocket.
   * @param {string} agent
   * @param {string} sessionId
   * @param {{form?: UrlForm | undefined, query?: Record<string, string> | undefined}} [options]
   *   `query`: what the agent is to see of the query, besides the session's id.
   * @returns {URL}
   */
  websocketUrl(agent, sessionId, { form = "agent", query = {} } = {}) {
    checkSession(sessionId);
    const wanted = { ...query, agent_session_id: sessionId };
    let url;
    if (form === "agent") {
      url = this.agentUrl(agent, "/endpoint/protocols/invocations_ws", wanted);
    } else {
      checkAgent(agent);
      url = new URL(`${this.origin}/api/projects/agents/endpoint/protocols/invocations_ws`);
      url.search = new URLSearchParams({
        "api-version": API_VERSION,
        project_name: this.project,
        agent_name: agent,
        foundry_features: "HostedAgents=V1Preview",
        ...wanted,
      }).toString();
    }
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return url;
  }
}

/**
 * Return an id for a session nobody can guess, of the platform's own form.
 * @returns {string}
 */
export function newSessionId() {
  return [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

/** @param {string | URL} address */
function parse(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    throw wrong("it isn't an address");
  }
  // The text isn't repeated: what is in front of an @ may be a password.
  if (url.username || url.password || url.search || url.hash) {
    throw wrong("it has a user, a query or a fragment");
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") throw wrong("it isn't http or https");
  return url;
}

/** @param {string} why */
function wrong(why) {
  return new TrunklineError("invalid_endpoint", `not an endpoint: ${why}; ${RULE}`);
}

/** @param {string} host */
function isLoopback(host) {
  return /^(?:localhost|.+\.localhost|127(?:\.\d+){3}|\[::1\])$/.test(host);
}

/**
 * A page that came over plain http itself may speak to where it came from: whoever listens there
 * could have changed the page.
 * @param {URL} url
 */
function isSecureHere(url) {
  const page = /** @type {{location?: {origin?: string}}} */ (globalThis).location;
  return page?.origin === url.origin;
}

/** @param {string} agent */
function checkAgent(agent) {
  if (!AGENT_NAME.test(agent)) {
    throw new TrunklineError("invalid_request", `${JSON.stringify(agent)} can't be an agent's name`);
  }
}

/** @param {string} sessionId */
function checkSession(sessionId) {
  if (!SESSION_ID.test(sessionId)) {
    throw new TrunklineError(
      "invalid_request",
      `${JSON.stringify(sessionId)} can't be a session's id: 1 to 256 of A-Z a-z 0-9 . _ : -`,
    );
  }
}
