/** Who has signed in. What it knows stays in this tab: see trunkline/console/signin.py. */

const PLACE = "trunkline.sign-in";
const EARLY_MS = 60_000;

/** @typedef {{user: string, token: string, until: number, renewal: string | null}} Held */

export class SignIn extends EventTarget {
  /** @type {Held | null} */ #held = null;
  /** @type {Promise<void> | null} */ #renewing = null;

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

  /** Use a bearer token that somebody pasted. @param {string} token */
  useToken(token) {
    const claims = claimsOf(token);
    this.#set({
      user: String(claims.preferred_username ?? claims.sub ?? "you"),
      token,
      until: claims.exp ? claims.exp * 1000 : Number.MAX_SAFE_INTEGER,
      renewal: null,
    });
  }

  /** Return a token that is good for a while yet. */
  async token() {
    if (this.#held === null) throw new Error("nobody has signed in");
    if (this.#held.renewal !== null && Date.now() > this.#held.until - EARLY_MS) {
      this.#renewing ??= this.#renew().finally(() => (this.#renewing = null));
      await this.#renewing;
    }
    if (this.#held === null) throw new Error("nobody has signed in");
    return this.#held.token;
  }

  async signOut() {
    const renewal = this.#held?.renewal;
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
    this.#set({ user, token, until: Date.now() + expires_in * 1000, renewal });
  }

  /** @param {Held | null} held */
  #set(held) {
    this.#held = held;
    if (held === null) sessionStorage.removeItem(PLACE);
    else sessionStorage.setItem(PLACE, JSON.stringify(held));
    this.dispatchEvent(new Event("change"));
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

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    credentials: "omit",
  });
  if (!response.ok) {
    const said = await response.json().catch(() => null);
    throw Object.assign(new Error(said?.error?.message ?? `status ${response.status}`), { status: response.status });
  }
  return response.status === 204 ? null : response.json();
}
