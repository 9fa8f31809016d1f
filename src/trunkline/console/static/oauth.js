/**
 * The page's part of signing in with a provider: authorization code with PKCE (RFC 7636).
 *
 * Verifier, state and nonce are made here and stay in this tab. What comes back, the platform
 * exchanges: see trunkline/console/provider.py.
 */

const PLACE = "trunkline.sign-in.begun";
/** Whoever comes back later than this has to begin again. */
const LONGEST_MS = 15 * 60_000;

/**
 * @typedef {object} Invitation
 * @property {string} name
 * @property {string} issuer
 * @property {string} [problem] Why nobody can sign in with it at the moment.
 * @property {string} authorization_endpoint
 * @property {string | null} end_session_endpoint
 * @property {string} client_id
 * @property {string} scope
 * @property {Record<string, string>} parameters
 */

/**
 * Begin; return where to go.
 * @param {Invitation} invitation
 */
export async function beginAt(invitation) {
  if (crypto.subtle === undefined) throw new Error("browsers let only pages on https or on this machine sign in");
  const begun = {
    verifier: secret(),
    state: secret(),
    nonce: secret(),
    issuer: invitation.issuer,
    redirectUri: location.origin + location.pathname,
    hash: location.hash,
    at: Date.now(),
  };
  sessionStorage.setItem(PLACE, JSON.stringify(begun));
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(begun.verifier));
  const url = new URL(invitation.authorization_endpoint);
  const query = {
    ...invitation.parameters,
    response_type: "code",
    client_id: invitation.client_id,
    redirect_uri: begun.redirectUri,
    scope: invitation.scope,
    state: begun.state,
    nonce: begun.nonce,
    code_challenge: base64url(new Uint8Array(digest)),
    code_challenge_method: "S256",
  };
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  return url.href;
}

/**
 * Return what a provider's answer in the address comes to; null if there is none. It is used up.
 * @param {URLSearchParams} query
 * @returns {{hash?: string, problem?: string, proof?: Record<string, string>} | null}
 */
export function answerIn(query) {
  if (!query.has("code") && !query.has("error")) return null;
  const begun = take();
  if (begun === null) return { problem: "This tab hasn't begun to sign in, or too long ago. Begin again." };
  const { hash } = begun;
  if (query.get("state") !== begun.state) return { hash, problem: "The provider's answer is for another tab. Begin again." };
  // RFC 9207: of two providers, the one that was asked has to have answered.
  if ((query.get("iss") ?? begun.issuer) !== begun.issuer) return { hash, problem: "Another provider has answered. Begin again." };
  const error = query.get("error");
  if (error !== null) {
    const why = query.get("error_description") ?? "it doesn't say why";
    return { hash, problem: `The provider didn't sign you in: ${why} (${error}).` };
  }
  const { verifier, nonce, redirectUri } = begun;
  return { hash, proof: { code: query.get("code"), verifier, nonce, redirect_uri: redirectUri } };
}

function take() {
  try {
    const begun = JSON.parse(sessionStorage.getItem(PLACE) ?? "null");
    sessionStorage.removeItem(PLACE);
    return begun !== null && Date.now() - begun.at < LONGEST_MS ? begun : null;
  } catch {
    return null;
  }
}

function secret() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
