/** Who has signed in. What it knows stays in this tab: see trunkline/console/signin.py. */

import { answerIn, beginAt } from "./oauth.js";

const PLACE = "trunkline.sign-in";
const EARLY_MS = 60_000;

/**
 * @typedef {object} Held
 * @property {string} user
 * @property {string} token
 * @property {number} until When the token ends.
 * @property {number} renewAt When the next one is asked for.
 * @property {string | null} renewal
 */

/** @typedef {import("./oauth.js").Invitation} Invitation */

export class SignIn extends EventTarget {
  /** @type {Held | null} */ #held = null;
  /** @type {Promise<void> | null} */ #renewing = null;
  /** Whether whoever signed out had signed in with the provider, which still knows them. */
  leftProvider = false;

  constructor() {
    super();
    try {
      this.#held = JSON.parse(sessionStorage.getItem(PLACE) ?? "null");
    } catch {
      this.#held = null;
    }
  }

  get user() {
    return this.#held?.user ?? null;
  }

  /** Use the link's key that is in the address, if there is one, and take it out of there. */
  async useLink() {
    const key = /^#key=(.+)$/.exec(location.hash)?.[1];
    if (key === undefined) return;
    history.replaceState(null, "", location.pathname);
    this.#keep(await post("sign-in", { key }));
  }

  /** Tell how one may sign in. @returns {Promise<{links: boolean, provider: Invitation | null}>} */
  async ways() {
    return (await ask("sign-in")).json();
  }

  /** Leave for the provider, which sends this tab back here. @param {Invitation} invitation */
  async begin(invitation) {
    location.assign(await beginAt(invitation));
  }

  /** Use what the provider sent this tab back with, if it has just done so. */
  async useAnswer() {
    const answer = answerIn(new URLSearchParams(location.search));
    if (answer === null) return;
    history.replaceState(null, "", location.pathname + (answer.hash ?? ""));
    if (answer.problem !== undefined) throw new Error(answer.problem);
    this.#keep(await post("sign-in", answer.proof));
  }

  /** Use a bearer token that somebody pasted. @param {string} token */
  useToken(token) {
    const claims = claimsOf(token);
    const until = claims.exp ? claims.exp * 1000 : Number.MAX_SAFE_INTEGER;
    const user = String(claims.preferred_username ?? claims.sub ?? "you");
    this.#set({ user, token, until, renewAt: until, renewal: null });
  }

  /** Return a token that is good for a while yet. */
  async token() {
    if (this.#held === null) throw new Error("nobody has signed in");
    if (this.#held.renewal !== null && Date.now() > this.#held.renewAt) {
      this.#renewing ??= this.#renew().finally(() => (this.#renewing = null));
      await this.#renewing;
    }
    if (this.#held === null) throw new Error("nobody has signed in");
    return this.#held.token;
  }

  async signOut() {
    const renewal = this.#held?.renewal;
    this.leftProvider = renewal?.startsWith("provider.") ?? false;
    this.#set(null);
    if (renewal) await post("sign-out", { renewal }).catch(() => {});
  }

  async #renew() {
    try {
      this.#keep(await post("renew", { renewal: this.#held?.renewal }));
    } catch (error) {
      if (error.status === 401) this.#set(null);
      throw error;
    }
  }

  #keep({ user, token, expires_in, renewal }) {
    const lifeMs = expires_in * 1000;
    const until = Date.now() + lifeMs;
    this.#set({ user, token, until, renewAt: until - Math.min(EARLY_MS, lifeMs / 2), renewal });
  }

  /** @param {Held | null} held */
  #set(held) {
    const before = this.user;
    this.#held = held;
    if (held === null) sessionStorage.removeItem(PLACE);
    else sessionStorage.setItem(PLACE, JSON.stringify(held));
    // A newer token of the same person changes nothing that is shown: a call goes on.
    if (this.user !== before) this.dispatchEvent(new Event("change"));
  }
}

/** Read a token's claims without believing them: the platform does the verifying. */
function claimsOf(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (c) => c.charCodeAt(0))));
  } catch {
    return {};
  }
}

function post(path, body) {
  return ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }).then(
    (response) => (response.status === 204 ? null : response.json()),
  );
}

async function ask(path, request = {}) {
  const response = await fetch(path, { ...request, credentials: "omit" });
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw Object.assign(new Error(said?.error?.message ?? `status ${response.status}`), { status: response.status });
}
